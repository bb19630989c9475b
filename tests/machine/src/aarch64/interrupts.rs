//! Interrupts: between processors, of the timer, and whether this processor takes them.

use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::{cpu, gic, timer};
use crate::CPUS;

/// The length of a tick of each processor, in ticks of the clock; 0 without any.
static TICKS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// Lets this processor be interrupted.
pub fn enable() {
    // SAFETY: traps are set up before this is called.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
}

/// Lets this processor not be interrupted.
pub fn disable() {
    // SAFETY: changes nothing else.
    unsafe { asm!("msr daifset, #2", options(nostack)) };
}

/// Returns true if this processor is interrupted.
pub fn are_enabled() -> bool {
    const IRQ: u64 = 1 << 7;
    let masked: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, daif", out(reg) masked, options(nomem, nostack)) };
    masked & IRQ == 0
}

/// Sleeps until the next interrupt, and takes it. Interrupts are off before and on afterwards.
pub fn enable_and_wait() {
    // SAFETY: the processor wakes up although interrupts are off, so none is missed.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
    enable();
}

/// Interrupts all other processors.
pub fn call_others() {
    // SAFETY: waits until the others see what was written before.
    unsafe { asm!("dsb ish", options(nostack)) };
    gic::call_others();
}

/// Interrupts this processor again and again, after so many microseconds each time.
pub fn start_ticks(microseconds: u32) {
    const ENABLED: u64 = 1;
    TICKS[cpu::number()].store(timer::ticks(microseconds), Relaxed);
    next_tick();
    // SAFETY: turns the virtual timer on.
    unsafe { asm!("msr cntv_ctl_el0, {}", "isb", in(reg) ENABLED, options(nostack)) };
}

/// Sets the time of the next tick, which ends the interrupt of the last one.
pub fn next_tick() {
    let ticks = TICKS[cpu::number()].load(Relaxed);
    // SAFETY: sets the virtual timer, which is this kernel's.
    unsafe { asm!("msr cntv_tval_el0, {}", "isb", in(reg) ticks, options(nostack)) };
}
