//! Ending the machine with a verdict.

use x86_64::instructions::{hlt, interrupts, port::Port};

/// What the kernel thinks of itself. `targets/x86_64/machine.conf` says what becomes of it.
#[derive(Clone, Copy)]
pub enum FaultAction {
    Pass = 0x10,
    Fail = 0x11,
}

pub fn exit(verdict: FaultAction) -> ! {
    // SAFETY: port 0xf4 is QEMU's isa-debug-exit, which ends the machine.
    unsafe { Port::<u32>::new(0xf4).write(verdict as u32) };
    interrupts::disable();
    loop {
        hlt();
    }
}
