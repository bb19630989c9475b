//! Ends the machine with a verdict.

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

/// The kernel's verdict on itself. `targets/x86_64/machine.conf` has the exit status that follows.
#[derive(Clone, Copy)]
pub enum Verdict {
    Pass = 0x10,
    Fail = 0x11,
}

/// Ends the machine.
pub fn exit(verdict: Verdict) -> ! {
    // SAFETY: port 0xf4 is QEMU's isa-debug-exit, which ends the machine.
    unsafe { Port::<u32>::new(0xf4).write(verdict as u32) };
    interrupts::disable();
    loop {
        hlt();
    }
}
