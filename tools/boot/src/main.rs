//! `cargo run`: builds the test kernel, boots it in QEMU and shows what it can do. With `--example`
//! it boots the kernel to copy from instead, which checks itself.
//!
//! With `--trace`, the kernel replays a recorded trace, without the recorded answers, on real page
//! tables, and prints a report. This program passes if the kernel itself found nothing wrong *and*
//! gave every answer that Linux gave.
//!
//! With `--hypervisor`, it boots the test hypervisor, whose guests and scenarios need no trace;
//! with `--linux`, its guest is Linux.
//!
//! With `--program`, it runs a Linux program in the kernel's user mode instead; with `--judge`, one
//! of ours, which it builds for the machine.
//!
//! Exit status: 0 passed, 1 failed, 2 could not be tried (usage, missing tools, unreadable files).

#![forbid(unsafe_code)]

mod args;
mod bare_metal;
mod demonstration;
mod environment;
mod hypervisor;
mod judge;
mod kernel;
mod linux;
mod machine;
mod program;
mod qemu;
mod tools;
mod trace;
mod version;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs, process};

use kvma_packages::progress::Step;

use crate::args::{Args, Command, Download, Maps};
use crate::environment::{Trouble, fitted, root, say};
use crate::machine::{Arch, Machine};
use crate::qemu::Lines;

fn main() -> ExitCode {
    let outcome = match args::parse() {
        Ok(Command::Help) => {
            say(format_args!("{}", args::HELP.trim_end()));
            Ok(true)
        }
        Ok(Command::Setup(args)) => {
            args.archs.iter().try_for_each(|&arch| setup(arch, args.download)).map(|()| true)
        }
        // All of them, also after one that failed.
        Ok(Command::Demonstration(args)) => {
            args.archs.iter().try_fold(true, |all_passed, &arch| {
                demonstration::run(&args, arch).map(|passed| all_passed && passed)
            })
        }
        Ok(Command::Boot(args)) => args.archs.iter().try_fold(true, |all_passed, &arch| {
            boot(&args, arch).map(|passed| all_passed && passed)
        }),
        Ok(Command::Program(args, program)) => match program::run(&args, &program) {
            Ok(status) => return ExitCode::from(status),
            Err(trouble) => Err(trouble),
        },
        Ok(Command::Example(args)) => example(&args),
        Ok(Command::Hypervisor(args)) => args.archs.iter().try_fold(true, |all_passed, &arch| {
            hypervisor::run(&args, arch).map(|passed| all_passed && passed)
        }),
        Ok(Command::Linux(args)) => linux::run(&args),
        Err(trouble) => Err(trouble),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(trouble) => {
            eprintln!("{}", fitted(&format!("boot: {trouble}")));
            ExitCode::from(2)
        }
    }
}

/// Gets QEMU and `core`, and prints the path of QEMU.
fn setup(arch: Arch, download: Download) -> Result<(), Trouble> {
    let machine = Machine::load(arch)?;
    let qemu = tools::qemu(&machine, download)?;
    // And what its kernel is built with.
    bare_metal::prepare(&mut process::Command::new("cargo"), &machine.triple, download)?;
    say(format_args!("{}", qemu.program().display()));
    Ok(())
}

/// Replays a trace in the kernel. True if it passed.
fn boot(args: &Args, arch: Arch) -> Result<bool, Trouble> {
    let machine = Machine::load(arch)?;
    let recorded = fs::read(&args.trace).map_err(|e| format!("{}: {e}", args.trace.display()))?;
    let recorded = String::from_utf8_lossy(&recorded);
    let input = trace::strip(&recorded).map_err(|e| format!("{}: {e}", args.trace.display()))?;
    let qemu = tools::qemu(&machine, args.download)?;
    Step::done("Building", format_args!("the test kernel for {}", arch.name()));
    let kernel = kernel::build(&machine, &kernel::TEST, args.download)?;

    let files = qemu::Files::new()?;
    fs::write(&files.input, input).map_err(|e| format!("{}: {e}", files.input.display()))?;
    let trace = short(&args.trace).display();
    let step = Step::new("Booting", format!("{}, replaying {trace}", machine.qemu));
    let begin = Instant::now();
    let command = qemu::command(&qemu, &machine, &kernel, &files, &args.command());
    let print = |line: &str| step.suspended(|| say(format_args!("{line}")));
    let end = qemu::run(command, &machine, args.timeout, Lines::new(args.maps, print))?;
    drop(step);
    let seconds = begin.elapsed().as_secs_f32();

    let answers = fs::read(&files.answers).unwrap_or_default();
    if let Some(copy) = &args.answers {
        fs::write(copy, &answers).map_err(|e| format!("{}: {e}", copy.display()))?;
    }
    let verdict = judge::compare(&recorded, &String::from_utf8_lossy(&answers));
    say(format_args!("\nboot: {verdict}"));
    let passed = end.passed() && verdict.identical();
    let result = if passed { "PASSED" } else { "FAILED" };
    let but = if end.passed() && !passed { "\n  but its answers are not Linux's" } else { "" };
    say(format_args!("boot: {result} after {seconds:.2} s\n  {end}{but}"));
    Ok(passed)
}

/// Boots the example. True if it passed.
fn example(args: &Args) -> Result<bool, Trouble> {
    let machine = Machine::load(Arch::X86_64)?;
    let qemu = tools::qemu(&machine, args.download)?;
    Step::done("Building", format_args!("examples/kernel"));
    let kernel = kernel::build(&machine, &kernel::EXAMPLE, args.download)?;
    let step = Step::new("Booting", format!("{}, examples/kernel", machine.qemu));
    let begin = Instant::now();
    let command = qemu::example_command(&qemu, &machine, &kernel);
    let print = |line: &str| step.suspended(|| say(format_args!("{line}")));
    // What is in its address space is what the example is there to show.
    let end = qemu::run(command, &machine, args.timeout, Lines::new(Maps::Shown, print))?;
    drop(step);
    let result = if end.passed() { "PASSED" } else { "FAILED" };
    let seconds = begin.elapsed().as_secs_f32();
    say(format_args!("\nboot: {result} after {seconds:.2} s: {end}"));
    Ok(end.passed())
}

/// Returns a path as one would write it here: without the working directory or the repository.
fn short(path: &Path) -> &Path {
    let here = env::current_dir().ok().and_then(|dir| path.strip_prefix(dir).ok());
    here.or_else(|| path.strip_prefix(root()).ok()).unwrap_or(path)
}
