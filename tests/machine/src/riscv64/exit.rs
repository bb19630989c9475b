//! Ends the machine with a verdict.

use super::interrupts;
use crate::Verdict;
use crate::memory_map::{DIRECT_MAP, FINISHER};

/// Ends the machine. `targets/riscv64/machine.conf` has the exit statuses.
pub fn exit(verdict: Verdict) -> ! {
    /// The test device's command to end with a status other than 0.
    const FAIL: u32 = 0x3333;
    let status: u32 = match verdict {
        Verdict::Pass => 33,
        Verdict::Fail => 35,
    };
    let device = core::ptr::with_exposed_provenance_mut::<u32>((DIRECT_MAP + FINISHER) as usize);
    // SAFETY: the test device's only register, which ends the machine.
    unsafe { device.write_volatile((status << 16) | FAIL) };
    interrupts::disable();
    loop {
        core::hint::spin_loop();
    }
}
