//! Time: the processor's constant-frequency counter, which all of them have in common.

use core::arch::asm;

use crate::memory_map::TIMER_HZ;

/// Returns the clock.
pub fn now() -> u64 {
    let time;
    // SAFETY: reads a register.
    unsafe { asm!("rdtime.d {}, $zero", out(reg) time, options(nomem, nostack)) };
    time
}

/// Converts ticks of the clock to nanoseconds.
pub fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(TIMER_HZ)) as u64
}

/// Converts microseconds to ticks of the clock.
pub(super) fn ticks(microseconds: u32) -> u64 {
    u64::from(microseconds) * TIMER_HZ / 1_000_000
}
