//! Replays recorded traces of address spaces, and compares the answers with those of Linux.
//!
//! `cargo run --release --example replay -- FILE…` prints for each file how many of the calls and
//! of the snapshots are identical to those of the kernel, the VMAs at the end, and the time per
//! call. The exit status is 0 only if all are identical.
//!
//! `--emit FILE` writes the trace to standard output, with the answers and the `maps` lines of kvma
//! in place of those of the kernel; with `--flags`, a `VmFlags:` line follows each. The answers in
//! the file are not read, so that it works on a file without them.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kvma::BoxAlloc;
use kvma::linux::NoKernel;
use kvma_trace::{Answer, Call, Entry, Line, Parser, Replay, Step};

const USAGE: &str = "\
usage: replay FILE...
       replay [--flags] --emit FILE

Replays traces of Linux address-space calls on kvma.

  --emit FILE   write the trace with kvma's own answers and maps to standard output
  --flags       with --emit: a VmFlags line after each VMA
  -h, --help    this text";

/// The job that the command line asks for.
enum Job {
    Compare(Vec<PathBuf>),
    Emit(PathBuf, Flags),
    Help,
}

/// The choice between maps with and without `VmFlags:` lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flags {
    Omit,
    Print,
}

fn main() -> ExitCode {
    let job = match arguments() {
        Ok(job) => job,
        Err(error) => {
            eprintln!("replay: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match job {
        Job::Help => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Job::Emit(file, flags) => match read(&file).and_then(|text| emit(&text, flags)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&file, &error),
        },
        Job::Compare(files) => compare_all(&files),
    }
}

fn arguments() -> Result<Job, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut files, mut emit, mut flags) = (Vec::new(), false, Flags::Omit);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            // Without a value, so that `--emit --flags FILE` works. `--emit=FILE` works, too.
            Long("emit") => {
                emit = true;
                files.extend(parser.optional_value().map(PathBuf::from));
            }
            Long("flags") => flags = Flags::Print,
            Short('h') | Long("help") => return Ok(Job::Help),
            Value(file) => files.push(PathBuf::from(file)),
            other => return Err(other.unexpected()),
        }
    }
    match (emit, files.len()) {
        (_, 0) => Err("no file".into()),
        (true, 1) => Ok(Job::Emit(files.remove(0), flags)),
        (true, _) => Err("--emit takes one file".into()),
        (false, _) if flags == Flags::Print => Err("--flags goes with --emit".into()),
        (false, _) => Ok(Job::Compare(files)),
    }
}

/// Reads a file as text. Paths in a trace may be in any encoding; what is not UTF-8 is replaced.
fn read(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn complain(file: &Path, error: &str) -> ExitCode {
    // Nothing is left to do if standard error is closed as well.
    let _ = writeln!(io::stderr(), "replay: {}: {error}", file.display());
    ExitCode::FAILURE
}

fn compare_all(files: &[PathBuf]) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let outcome = read(file).and_then(|text| compare(&text));
        let line = match &outcome {
            Ok(tally) => format!("{}: {tally}\n", file.display()),
            Err(error) => {
                code = complain(file, error);
                continue;
            }
        };
        if !outcome.is_ok_and(|tally| tally.all_identical()) {
            code = ExitCode::FAILURE;
        }
        if io::stdout().write_all(line.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    code
}

/// The result of a comparison.
#[derive(Default)]
struct Tally {
    calls: usize,
    same_calls: usize,
    /// Calls and snapshots whose answers are not in the file.
    unknown: usize,
    snapshots: usize,
    same_snapshots: usize,
    vmas: usize,
    spent: Duration,
    first_difference: Option<String>,
}

impl Tally {
    fn all_identical(&self) -> bool {
        self.calls == self.same_calls && self.snapshots == self.same_snapshots
    }

    fn note(&mut self, difference: impl FnOnce() -> String) {
        self.first_difference.get_or_insert_with(difference);
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { calls, same_calls, snapshots, same_snapshots, vmas, .. } = self;
        let each = self.spent.as_nanos().checked_div(*calls as u128).unwrap_or(0);
        write!(
            f,
            "calls {same_calls}/{calls} identical, \
             snapshots {same_snapshots}/{snapshots} identical, \
             {vmas} VMAs at the end, {each} ns/call"
        )?;
        if self.unknown > 0 {
            write!(f, " ({} answers are not in the file)", self.unknown)?;
        }
        match &self.first_difference {
            Some(difference) => write!(f, "\n  first difference: {difference}"),
            None => Ok(()),
        }
    }
}

/// A progress bar, if there is a terminal.
struct Progress {
    bar: ProgressBar,
    since: usize,
}

impl Progress {
    /// Lines between two updates.
    const STEP: usize = 256;

    fn new(text: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), since: 0 };
        }
        let bar = ProgressBar::new(text.bytes().filter(|&byte| byte == b'\n').count() as u64);
        if let Ok(style) =
            ProgressStyle::with_template("replaying {bar:40} line {pos}/{len}, {per_sec}")
        {
            bar.set_style(style);
        }
        Self { bar, since: 0 }
    }

    fn reached(&mut self, line: usize) {
        if line >= self.since + Self::STEP {
            self.since = line;
            self.bar.set_position(line as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Replays `text` and hands each line to `seen`, with what it came to.
fn replay<'a>(
    text: &'a str,
    mut seen: impl FnMut(
        &Entry<'a>,
        Step,
        &Replay<'a, Arc<BoxAlloc<Node<'a>>>>,
        Duration,
    ) -> Result<(), String>,
) -> Result<(), String> {
    let alloc = Arc::new(BoxAlloc::new());
    let mut replay = Box::new(Replay::new(alloc).map_err(|error| error.to_string())?);
    for entry in Parser::new(text) {
        let entry = entry.map_err(|error| error.to_string())?;
        let start = Instant::now();
        let step = replay
            .step(&entry.line, &mut NoKernel)
            .map_err(|error| format!("line {}: {error}", entry.number))?;
        seen(&entry, step, &replay, start.elapsed())?;
    }
    Ok(())
}

type Node<'a> = kvma::VmaNode<kvma::linux::LinuxVma<kvma_trace::Backing<'a>>>;

fn compare(text: &str) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut progress = Progress::new(text);
    replay(text, |entry, step, replay, spent| {
        progress.reached(entry.number);
        match (entry.line, step) {
            (Line::Call(_, kernel), Step::Called(ours)) => {
                tally.calls += 1;
                tally.spent += spent;
                if kernel == Answer::Unknown {
                    tally.unknown += 1;
                } else if kernel == ours {
                    tally.same_calls += 1;
                } else {
                    tally.note(|| {
                        format!("line {}: {}, kvma says {ours}", entry.number, entry.text)
                    });
                }
            }
            (Line::Maps(kernel), Step::Snapshot) => {
                tally.snapshots += 1;
                if kernel.count().is_none() {
                    tally.unknown += 1;
                } else if replay.matches(&kernel) {
                    tally.same_snapshots += 1;
                } else {
                    tally.note(|| format!("line {}: the snapshot differs", entry.number));
                }
            }
            _ => {}
        }
        tally.vmas = replay.mm().map_count();
        Ok(())
    })?;
    Ok(tally)
}

fn emit(text: &str, flags: Flags) -> Result<(), String> {
    // Written only when all of it has parsed: half a trace would look like a whole one.
    let mut out = String::with_capacity(text.len() + text.len() / 2);
    let mut progress = Progress::new(text);
    replay(text, |entry, step, replay, _| {
        progress.reached(entry.number);
        let written = match (entry.line, step) {
            (Line::Call(Call::Execve { image, .. }, _), Step::Called(answer)) => {
                write!(out, "{} = {answer}\n{}", entry.input(), image.text())
            }
            (Line::Call(..), Step::Called(answer)) => writeln!(out, "{} = {answer}", entry.input()),
            (Line::Maps(_), Step::Snapshot) => write_maps(&mut out, replay, flags),
            (Line::Maps(input), _) => {
                let text = input.text();
                let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
                write!(out, "{}\n{text}{end}", entry.text)
            }
            _ => writeln!(out, "{}", entry.text),
        };
        written.map_err(|error| error.to_string())
    })?;
    drop(progress);
    io::stdout().write_all(out.as_bytes()).map_err(|error| error.to_string())
}

fn write_maps<'a>(
    out: &mut String,
    replay: &Replay<'a, Arc<BoxAlloc<Node<'a>>>>,
    flags: Flags,
) -> std::fmt::Result {
    let maps = replay.mm().maps();
    writeln!(out, "maps {}", maps.clone().count())?;
    for entry in maps {
        writeln!(out, "{entry}")?;
        if flags == Flags::Print {
            writeln!(out, "VmFlags: {}", entry.flags())?;
        }
    }
    Ok(())
}
