//! Time: the generic timer.

use core::arch::asm;

/// Returns the clock.
pub fn now() -> u64 {
    let time;
    // SAFETY: reads a register.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) time, options(nomem, nostack)) };
    time
}

/// Returns the clock's ticks in a second.
fn rate() -> u64 {
    let rate: u64;
    // SAFETY: reads a register, which the firmware or the emulator has set.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) rate, options(nomem, nostack)) };
    rate.max(1)
}

/// Converts ticks of the clock to nanoseconds.
pub fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(rate())) as u64
}

/// Converts microseconds to ticks of the clock.
pub(super) fn ticks(microseconds: u32) -> u64 {
    u64::from(microseconds) * rate() / 1_000_000
}
