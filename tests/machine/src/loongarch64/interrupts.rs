//! Interrupts: between processors, of the timer, and whether this processor takes them.

use core::arch::asm;

use super::{cpu, iocsr, timer};
use crate::CPUS;

/// Bits of the registers of enabled (ECFG) and pending (ESTAT) interrupts.
pub const TIMER: u64 = 1 << 11;
pub const CALL: u64 = 1 << 12;
/// Of the current mode (CRMD): interrupts are taken.
const TAKEN: u64 = 1 << 2;

/// Changes whether this processor takes interrupts.
fn set(taken: u64) {
    // SAFETY: changes nothing else. Traps are set up before they are turned on.
    unsafe { asm!("csrxchg {}, {}, 0", inout(reg) taken => _, in(reg) TAKEN, options(nostack)) };
}

/// Lets this processor be interrupted.
pub fn enable() {
    set(TAKEN);
}

/// Lets this processor not be interrupted.
pub fn disable() {
    set(0);
}

/// Returns true if this processor is interrupted.
pub fn are_enabled() -> bool {
    let mode: u64;
    // SAFETY: reads a register.
    unsafe { asm!("csrrd {}, 0", out(reg) mode, options(nomem, nostack)) };
    mode & TAKEN != 0
}

/// Sleeps until the next interrupt, and takes it. Interrupts are off before and on afterwards.
pub fn enable_and_wait() {
    // SAFETY: QEMU's processor wakes up although interrupts are off, so none is missed.
    unsafe { asm!("idle 0", options(nostack)) };
    enable();
}

/// Prepares this processor's interrupts.
pub fn init() {
    iocsr::enable();
    set_timer(0);
    // SAFETY: traps are set up. All of them have one entry point.
    unsafe { asm!("csrwr {}, 4", inout(reg) TIMER | CALL => _, options(nostack)) };
}

/// Interrupts all other processors.
pub fn call_others() {
    let me = cpu::number();
    for cpu in (0..CPUS).filter(|&cpu| cpu != me) {
        // What was written before is to be seen by the other processor.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        iocsr::interrupt(cpu);
    }
}

/// Ends an interrupt by another processor. To be called before what it asks for is done.
pub fn end_call() {
    iocsr::end();
}

/// Sets the timer's register.
fn set_timer(value: u64) {
    // SAFETY: changes the timer alone.
    unsafe { asm!("csrwr {}, 0x41", inout(reg) value => _, options(nostack)) };
}

/// Interrupts this processor again and again, after so many microseconds each time.
pub fn start_ticks(microseconds: u32) {
    /// It runs, and begins anew at each end. The ticks are a multiple of 4.
    const PERIODIC: u64 = 1 | 1 << 1;
    set_timer(timer::ticks(microseconds).next_multiple_of(4) | PERIODIC);
}

/// Ends the timer's interrupt. The next one comes by itself.
pub fn next_tick() {
    // SAFETY: clears the interrupt alone.
    unsafe { asm!("csrwr {}, 0x44", inout(reg) 1u64 => _, options(nostack)) };
}
