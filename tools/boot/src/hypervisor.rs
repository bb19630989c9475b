//! Boots the test hypervisor.

use std::fs;
use std::time::Instant;

use kvma_packages::progress::Step;

use crate::args::{Args, Maps};
use crate::environment::{Trouble, say};
use crate::machine::{Arch, Machine};
use crate::qemu::{self, Files, Lines};
use crate::{kernel, tools};

/// Returns the machine of the test hypervisor.
pub fn machine(arch: Arch) -> Result<Machine, Trouble> {
    let mut machine = Machine::load(arch)?;
    machine.kind = machine
        .hypervisor_kind
        .take()
        .ok_or_else(|| format!("QEMU has no machine for the test hypervisor of {}", arch.name()))?;
    Ok(machine)
}

/// Boots it with guests of its own. True if it passed.
pub fn run(args: &Args, arch: Arch) -> Result<bool, Trouble> {
    let files = Files::new()?;
    // QEMU wants a file to load, which nobody reads.
    fs::write(&files.input, "-").map_err(|e| format!("{}: {e}", files.input.display()))?;
    let boot = Boot { arch, machine: machine(arch)?, files, command: args.command() };
    boot.run(args, "the test hypervisor", |line| say(format_args!("{line}")))
}

/// A boot of the test hypervisor.
pub struct Boot {
    pub arch: Arch,
    pub machine: Machine,
    /// With the file that is loaded.
    pub files: Files,
    /// The hypervisor's command line.
    pub command: String,
}

impl Boot {
    /// Builds and boots, and prints lines by `print`. True if the hypervisor passed.
    pub fn run(
        self,
        args: &Args,
        what: &str,
        mut print: impl FnMut(&str) + Send,
    ) -> Result<bool, Trouble> {
        let Self { arch, machine, files, command } = self;
        let qemu = tools::qemu(&machine, args.download)?;
        Step::done("Building", format_args!("the test hypervisor for {}", arch.name()));
        let kernel = kernel::build(&machine, &kernel::HYPERVISOR, args.download)?;
        let step = Step::new("Booting", format!("{}, {what}", machine.qemu));
        let begin = Instant::now();
        let command = qemu::command(&qemu, &machine, &kernel, &files, &command);
        let print = |line: &str| step.suspended(|| print(line));
        let end = qemu::run(command, &machine, args.timeout, Lines::new(Maps::Shown, print))?;
        drop(step);
        let result = if end.passed() { "PASSED" } else { "FAILED" };
        let seconds = begin.elapsed().as_secs_f32();
        say(format_args!("\nboot: {result} after {seconds:.2} s: {end}"));
        Ok(end.passed())
    }
}
