//! Ends the machine with a verdict.

use super::{interrupts, uart};
use crate::Verdict;
use crate::memory_map::{DEVICE_MAP, POWER, VERDICT};

/// Ends the machine. `targets/loongarch64/machine.conf` has the statuses.
pub fn exit(verdict: Verdict) -> ! {
    /// ACPI's sleep control register: enter the state S5, which is off.
    const OFF: u8 = 1 << 5 | 5 << 2;
    let status = match verdict {
        Verdict::Pass => 33,
        Verdict::Fail => 35,
    };
    uart::send(VERDICT, &[status]);
    let register = core::ptr::with_exposed_provenance_mut::<u8>((DEVICE_MAP + POWER) as usize);
    // SAFETY: the register that turns the machine off.
    unsafe { register.write_volatile(OFF) };
    interrupts::disable();
    loop {
        core::hint::spin_loop();
    }
}
