//! A monitor in user space, on KVM: kvma says what is where in the guest, and its hooks tell KVM.
//!
//! `cargo run -p kvma-monitor` starts a guest of one virtual processor, whose program is forty
//! instructions long (`program.rs`), and shows on it what a monitor needs of guest memory, a line
//! for each thing. The exit status is 0 if all of it went as it must. Where there is no KVM, the
//! program says so, and the exit status is 0 as well.
//!
//! Where to begin reading: `memslots.rs` has the hooks, `machine.rs` the guest's memory and what is
//! done about an exit, `shows.rs` what is shown.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod machine;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod memslots;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod program;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod shows;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod vcpu;

const USAGE: &str = "\
usage: kvma-monitor [options]

Runs a small guest on KVM, and shows kvma's guest memory at work on it.

  --device FILE  KVM's device: /dev/kvm if nothing is said
  -h, --help     this text";

fn main() -> ExitCode {
    let device = match arguments() {
        Ok(Some(device)) => device,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    run(&device)
}

/// Returns the path of KVM's device, nothing if the usage is asked for.
fn arguments() -> Result<Option<String>, lexopt::Error> {
    use lexopt::prelude::{Long, Short, ValueExt};

    let mut device = String::from("/dev/kvm");
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("device") => device = parser.value()?.string()?,
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(device))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn run(device: &str) -> ExitCode {
    let vm = match machine::open(device) {
        Ok(vm) => vm,
        Err(reason) => return no_kvm(&reason),
    };
    println!("a guest of one virtual processor, on {device}\n");
    match shows::run(vm) {
        Ok(summary) => {
            println!("\n{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn run(_device: &str) -> ExitCode {
    no_kvm("the guest is a program for x86-64, under Linux")
}

/// Says that nothing can be shown on this machine, which is no failure.
fn no_kvm(reason: &str) -> ExitCode {
    println!("no KVM here: {reason}");
    println!("Nothing was shown. `cargo run -- --hypervisor` shows guest memory in QEMU.");
    ExitCode::SUCCESS
}
