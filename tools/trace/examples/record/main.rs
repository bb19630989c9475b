//! Records the calls with which a program changes its address space, as a trace to be replayed.
//!
//! `cargo run --release -p kvma-trace --example record -- -o FILE PROGRAM [ARGUMENT...]` runs the
//! program under ptrace(2), without address-space randomisation, and writes its calls with the
//! kernel's answers. It follows all threads of the first process, and no other process. Linux on
//! x86-64 only.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod process;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod recorder;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod tracer;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    let options = match arguments() {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("record: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match tracer::run(
        &options.command,
        recorder::Recorder::new(&options.command, options.every, options.flags),
    ) {
        Ok(trace) => match std::fs::write(&options.output, trace) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("record: {}: {error}", options.output.display());
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("record: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    eprintln!("record: only for Linux on x86-64");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const USAGE: &str = "\
usage: record [--every N] [--flags] -o FILE PROGRAM [ARGUMENT...]

Runs PROGRAM and writes its address-space calls to FILE.

  -o, --output FILE   where to
  --every N           a snapshot after every N calls (100), and one at the end
  --flags             a VmFlags line after each vma of a snapshot
  -h, --help          this text";

/// The command line.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
struct Options {
    output: std::path::PathBuf,
    every: usize,
    flags: process::Flags,
    command: Vec<std::ffi::OsString>,
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn arguments() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut output, mut every, mut flags) = (None, 100, process::Flags::Omit);
    let mut command = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('o') | Long("output") => output = Some(parser.value()?.into()),
            Long("every") => every = parser.value()?.parse()?,
            Long("flags") => flags = process::Flags::Print,
            Short('h') | Long("help") => return Ok(None),
            Value(program) => {
                command.push(program);
                command.extend(parser.raw_args()?);
            }
            other => return Err(other.unexpected()),
        }
    }
    match output {
        Some(output) if !command.is_empty() => Ok(Some(Options { output, every, flags, command })),
        Some(_) => Err("no program".into()),
        None => Err("no -o FILE".into()),
    }
}
