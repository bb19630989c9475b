//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::environment::{Trouble, root};

pub const HELP: &str = "\
Builds the kvma test kernel, boots it in QEMU and checks its answers.

usage: cargo run [-- OPTIONS]
       cargo run -- [OPTIONS] --program FILE [ARGUMENTS...]
  --program FILE   run this static Linux program in user mode, with all the
                   arguments that follow, show what it prints, and exit with
                   its status; it finds itself in /bin
  --dir DIR        first put the files of this directory into the program's /
  --record FILE    also write its memory calls there, in trace format
  --trace FILE     replay this trace (default: tests/traces/python.trace)
  --answers FILE   also write the kernel's answers there, in trace format
  --timeout SECS   give up on the kernel after this long (default: 120,
                   or the environment variable KVMA_BOOT_TIMEOUT)
  --broken NAME    break the kernel on purpose, to see that it fails: no-flush,
                   early-free, no-unmap-hook, no-protect-hook, no-relocate-hook,
                   no-shootdown, no-still-valid, fork-keeps-write, no-copy
  --skip-scenarios do not run the kernel's scenarios before the replay
  --no-download    do not download QEMU if it is missing
  --example        boot examples/kernel instead, which replays nothing
  --setup          only get QEMU, and print its path
  -v, --verbose    print the address space at the end, some 200 lines
  -h, --help       print this text

A QEMU on PATH is used. Without one, Debian's packages are downloaded and
unpacked below target/; nothing is installed.

exit status: 0 passed, 1 failed, 2 could not be tried; with --program, that
of the program, or 125 if the kernel has failed
";

/// A command of the user.
pub enum Command {
    /// Print the usage.
    Help,
    /// Only get QEMU.
    Setup(Download),
    /// Boot the test kernel.
    Boot(Args),
    /// Boot the example.
    Example(Args),
    /// Run a program in the kernel.
    Program(Args, Program),
}

/// A program that the kernel is to run.
pub struct Program {
    pub file: PathBuf,
    pub arguments: Vec<OsString>,
    /// The directories whose files it finds.
    pub dirs: Vec<PathBuf>,
    /// Where its memory calls go.
    pub record: Option<PathBuf>,
}

/// Whether a missing QEMU may be downloaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Download {
    Allowed,
    Forbidden,
}

/// Whether the lines of `/proc/PID/maps` that the kernel prints are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Maps {
    Shown,
    Counted,
}

/// The options of a boot.
pub struct Args {
    /// The trace to replay.
    pub trace: PathBuf,
    /// The file to which the kernel's answers are copied.
    pub answers: Option<PathBuf>,
    pub timeout: Duration,
    /// The way in which the kernel is broken on purpose.
    pub broken: Option<String>,
    pub skip_scenarios: bool,
    pub download: Download,
    pub maps: Maps,
}

impl Args {
    /// Returns the kernel's command line.
    pub fn command(&self) -> String {
        let broken = self.broken.iter().map(|name| format!("broken={name}"));
        let skip_scenarios = self.skip_scenarios.then(|| "skip-scenarios".to_owned());
        broken.chain(skip_scenarios).collect::<Vec<_>>().join(" ")
    }
}

/// Reads the command line.
pub fn parse() -> Result<Command, Trouble> {
    parse_from(lexopt::Parser::from_env()).map_err(|e| format!("{e}; --help shows the usage"))
}

fn parse_from(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut args = Args {
        trace: root().join("tests/traces/python.trace"),
        answers: None,
        timeout: seconds(&env::var("KVMA_BOOT_TIMEOUT").unwrap_or_else(|_| "120".into()))?,
        broken: None,
        skip_scenarios: false,
        download: Download::Allowed,
        maps: Maps::Counted,
    };
    let (mut setup, mut example) = (false, false);
    let (mut program, mut dirs, mut record) = (None, Vec::new(), None);
    // An option that only a replay has a use for.
    let mut of_replay = None;
    while let Some(arg) = parser.next()? {
        of_replay = match arg {
            Long("trace") => Some("--trace"),
            Long("answers") => Some("--answers"),
            Long("broken") => Some("--broken"),
            Long("skip-scenarios") => Some("--skip-scenarios"),
            _ => of_replay,
        };
        match arg {
            Long("trace") => args.trace = parser.value()?.into(),
            Long("answers") => args.answers = Some(parser.value()?.into()),
            Long("timeout") => args.timeout = seconds(&parser.value()?.string()?)?,
            Long("broken") => args.broken = Some(parser.value()?.string()?),
            Long("skip-scenarios") => args.skip_scenarios = true,
            Long("no-download") => args.download = Download::Forbidden,
            Long("verbose") | Short('v') => args.maps = Maps::Shown,
            Long("example") => example = true,
            Long("setup") => setup = true,
            Long("dir") => dirs.push(parser.value()?.into()),
            Long("record") => record = Some(parser.value()?.into()),
            Long("program") => {
                let file = parser.value()?.into();
                // All that follows is the program's.
                program = Some((file, parser.raw_args()?.collect()));
            }
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if example && let Some(option) = of_replay {
        return Err(format!("--example replays nothing, so it takes no {option}").into());
    }
    Ok(match program {
        _ if setup => Command::Setup(args.download),
        _ if example => Command::Example(args),
        Some((file, arguments)) => {
            Command::Program(args, Program { file, arguments, dirs, record })
        }
        None if dirs.is_empty() && record.is_none() => Command::Boot(args),
        None => return Err("--dir and --record need --program".into()),
    })
}

fn seconds(text: &str) -> Result<Duration, lexopt::Error> {
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => {
            Err(format!("the timeout must be a whole number of seconds above 0, not `{text}`")
                .into())
        }
    }
}
