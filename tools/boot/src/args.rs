//! The command line.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::environment::{Trouble, root};
use crate::machine::Arch;

pub const HELP: &str = "\
Builds the kvma test kernel, boots it in QEMU and shows what it can do: its
scenarios, then a shell script in user mode.

usage: cargo run [-- OPTIONS]
       cargo run -- [OPTIONS] --program FILE [ARGUMENTS...]
       cargo run -- [OPTIONS] --judge [PART [ROUNDS]]
  --program FILE   run this static Linux program in user mode, with all the
                   arguments that follow, show what it prints, and exit with
                   its status; it finds itself in /bin
  --judge          the same with a program of ours (tests/programs), built for
                   the machine, which judges what the kernel does with memory:
                   faults, files, moves, forks, huge, stale, or all of it
  --dir DIR        first put the files of this directory into the program's /
  --record FILE    also write its memory calls there, in trace format
  --memory MIB     memory of the machine for it (default: 1024)
  --arch NAME      the machine: x86_64 (the default), aarch64, riscv64,
                   loongarch64, or all, one after the other
  --trace FILE     replay this trace after the scenarios, and compare all answers
                   with Linux's; with another of these options and no trace,
                   tests/traces/python.trace
  --answers FILE   also write the kernel's answers there, in trace format
  --timeout SECS   give up on the kernel after this long (default: 120,
                   or the environment variable KVMA_BOOT_TIMEOUT)
  --broken NAME    break the kernel on purpose, to see that it fails: no-flush,
                   early-free, no-unmap-hook, no-protect-hook, no-relocate-hook,
                   no-shootdown, no-acknowledge, no-still-valid, no-copy,
                   fork-keeps-write, no-split;
                   with programs also truncation-keeps-pages, wrong-address
  --unprobed       do not look for stale TLB entries after each flush, so that
                   programs have to notice them
  --skip-scenarios do not run the kernel's scenarios before the replay
  --no-download    do not download QEMU if it is missing
  --hypervisor     boot the test hypervisor instead, which runs guests of its own
                   and takes these ways to break it: no-flush, no-shootdown,
                   early-free, no-still-valid, no-unmap-hook, no-protect-hook,
                   no-advise-hook, no-watch, no-mark, writable-rom, large-leaves
  --linux          with --hypervisor, and on riscv64: its guest is Linux, from
                   Debian's package, which is moved to other memory while it
                   runs; -v prints what that kernel says, too
  --example        boot examples/kernel instead, which replays nothing
  --setup          only get QEMU, and print its path
  -v, --verbose    print each statement of the scenarios; with --trace, the
                   address space at the end
  -h, --help       print this text

A QEMU on PATH is used. Without one, Debian's packages are downloaded and
unpacked below target/; nothing is installed.

exit status: 0 passed, 1 failed, 2 could not be tried; with --program or
--judge, that of the program, or 125 if the kernel has failed
";

/// A command of the user.
pub enum Command {
    /// Print the usage.
    Help,
    /// Only get QEMU.
    Setup(Args),
    /// Show the test kernel.
    Demonstration(Args),
    /// Let the test kernel replay a trace.
    Boot(Args),
    /// Boot the example.
    Example(Args),
    /// Boot the test hypervisor.
    Hypervisor(Args),
    /// Boot Linux in the test hypervisor.
    Linux(Args),
    /// Run a program in the kernel.
    Program(Args, Program),
}

/// The origin of a program.
pub enum Image {
    /// The user has it.
    File(PathBuf),
    /// It is ours, and built for the machine.
    Judge,
}

/// A program that the kernel is to run.
pub struct Program {
    pub image: Image,
    pub arguments: Vec<OsString>,
    /// The directories whose files it finds.
    pub dirs: Vec<PathBuf>,
    /// The file to which its memory calls are written.
    pub record: Option<PathBuf>,
    /// Memory of the machine, in MiB.
    pub memory: u32,
}

/// The choice to download a missing QEMU.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Download {
    Allowed,
    Forbidden,
}

/// The choice to show the lines of `/proc/PID/maps` that the kernel prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Maps {
    Shown,
    Counted,
}

/// The options of a boot.
pub struct Args {
    /// The machines, at least one.
    pub archs: Vec<Arch>,
    /// The trace to replay.
    pub trace: PathBuf,
    /// The file to which the kernel's answers are copied.
    pub answers: Option<PathBuf>,
    pub timeout: Duration,
    /// The way in which the kernel is broken on purpose.
    pub broken: Option<String>,
    pub skip_scenarios: bool,
    /// The kernel leaves it to programs to notice stale TLB entries.
    pub unprobed: bool,
    pub download: Download,
    pub maps: Maps,
}

impl Args {
    /// Returns the kernel's command line.
    pub fn command(&self) -> String {
        // The kernel gives up before this program does, as it can say where it is.
        let mut words = vec![format!("limit={}", self.timeout.as_secs())];
        words.extend(self.broken.iter().map(|name| format!("broken={name}")));
        words.extend(self.skip_scenarios.then(|| "skip-scenarios".to_owned()));
        words.extend(self.unprobed.then(|| "unprobed".to_owned()));
        words.join(" ")
    }
}

/// Reads the command line.
pub fn parse() -> Result<Command, Trouble> {
    parse_from(lexopt::Parser::from_env()).map_err(|e| format!("{e}; --help shows the usage"))
}

fn parse_from(mut parser: lexopt::Parser) -> Result<Command, lexopt::Error> {
    let mut args = Args {
        archs: vec![Arch::X86_64],
        trace: root().join("tests/traces/python.trace"),
        answers: None,
        timeout: seconds(&env::var("KVMA_BOOT_TIMEOUT").unwrap_or_else(|_| "120".into()))?,
        broken: None,
        skip_scenarios: false,
        unprobed: false,
        download: Download::Allowed,
        maps: Maps::Counted,
    };
    let (mut setup, mut example, mut hypervisor, mut linux) = (false, false, false, false);
    let (mut program, mut dirs, mut record, mut memory) = (None, Vec::new(), None, 1024);
    // An option that only a replay has a use for.
    let mut of_trace = None;
    while let Some(arg) = parser.next()? {
        of_trace = match arg {
            Long("trace") => Some("--trace"),
            Long("answers") => Some("--answers"),
            Long("skip-scenarios") => Some("--skip-scenarios"),
            _ => of_trace,
        };
        match arg {
            Long("arch") => args.archs = archs(&parser.value()?.string()?)?,
            Long("trace") => args.trace = parser.value()?.into(),
            Long("answers") => args.answers = Some(parser.value()?.into()),
            Long("timeout") => args.timeout = seconds(&parser.value()?.string()?)?,
            Long("broken") => args.broken = Some(parser.value()?.string()?),
            Long("skip-scenarios") => args.skip_scenarios = true,
            Long("unprobed") => args.unprobed = true,
            Long("no-download") => args.download = Download::Forbidden,
            Long("verbose") | Short('v') => args.maps = Maps::Shown,
            Long("example") => example = true,
            Long("hypervisor") => hypervisor = true,
            Long("linux") => linux = true,
            Long("setup") => setup = true,
            Long("dir") => dirs.push(parser.value()?.into()),
            Long("memory") => memory = parser.value()?.parse()?,
            Long("record") => record = Some(parser.value()?.into()),
            Long("program") => {
                let image = Image::File(parser.value()?.into());
                // All that follows is the program's.
                program = Some((image, parser.raw_args()?.collect()));
            }
            Long("judge") => program = Some((Image::Judge, parser.raw_args()?.collect())),
            Long("help") | Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    if example && args.archs != [Arch::X86_64] {
        return Err("--example boots on x86_64 alone".into());
    }
    if program.is_some() && args.archs.len() > 1 {
        return Err("a program runs on one machine at a time".into());
    }
    let broken = args.broken.as_ref().map(|_| "--broken");
    if example && let Some(option) = of_trace.or(broken) {
        return Err(format!("--example replays nothing, so it takes no {option}").into());
    }
    if hypervisor && let Some(option) = of_trace {
        return Err(format!("--hypervisor replays nothing, so it takes no {option}").into());
    }
    if hypervisor && (example || program.is_some()) {
        return Err("--hypervisor boots no other kernel".into());
    }
    if linux && (!hypervisor || args.archs != [Arch::Riscv64]) {
        return Err("--linux needs --hypervisor and --arch riscv64".into());
    }
    if hypervisor {
        if let [arch] = args.archs[..]
            && !arch.runs_guests()
        {
            return Err(format!("QEMU emulates no hypervisor's machine of {}", arch.name()).into());
        }
        args.archs.retain(|arch| arch.runs_guests());
    }
    Ok(match program {
        _ if setup => Command::Setup(args),
        _ if linux => Command::Linux(args),
        _ if hypervisor => Command::Hypervisor(args),
        _ if example => Command::Example(args),
        Some((image, arguments)) => {
            Command::Program(args, Program { image, arguments, dirs, record, memory })
        }
        None if !dirs.is_empty() || record.is_some() => {
            return Err("--dir and --record need --program or --judge".into());
        }
        None if of_trace.or(broken).is_none() => Command::Demonstration(args),
        None => Command::Boot(args),
    })
}

fn archs(name: &str) -> Result<Vec<Arch>, lexopt::Error> {
    if name == "all" {
        return Ok(Arch::ALL.into());
    }
    match Arch::ALL.into_iter().find(|arch| arch.name() == name) {
        Some(arch) => Ok(vec![arch]),
        None => Err(format!("no machine is called `{name}`").into()),
    }
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
