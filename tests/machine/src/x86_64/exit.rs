//! Ends the machine with a verdict.

use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::Verdict;

/// Ends the machine. `targets/x86_64/machine.conf` has the exit statuses that follow.
pub fn exit(verdict: Verdict) -> ! {
    let code = match verdict {
        Verdict::Pass => 0x10,
        Verdict::Fail => 0x11,
    };
    // SAFETY: port 0xf4 is QEMU's isa-debug-exit, which ends the machine.
    unsafe { Port::<u32>::new(0xf4).write(code) };
    interrupts::disable();
    loop {
        hlt();
    }
}
