//! Interrupts: between harts, of the timer, and whether this hart takes them.
//!
//! Harts interrupt each other by the software interrupt of machine mode, which `entry` passes on to
//! supervisor mode. The timer is supervisor mode's own (the extension Sstc).

use core::arch::asm;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::{cpu, timer};
use crate::CPUS;
use crate::memory_map::{CLINT, DIRECT_MAP};

/// Bits of `sie` and `sip`.
pub const SOFTWARE: u64 = 1 << 1;
pub const TIMER: u64 = 1 << 5;
/// Of `sstatus`.
const SIE: u64 = 1 << 1;

/// The length of a tick of each hart, in ticks of the clock; 0 without any.
static TICKS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// Lets this hart be interrupted.
pub fn enable() {
    // SAFETY: traps are set up before this is called.
    unsafe { asm!("csrsi sstatus, {}", const SIE, options(nostack)) };
}

/// Lets this hart not be interrupted.
pub fn disable() {
    // SAFETY: changes nothing else.
    unsafe { asm!("csrci sstatus, {}", const SIE, options(nostack)) };
}

/// Returns true if this hart is interrupted.
pub fn are_enabled() -> bool {
    let status: u64;
    // SAFETY: reads a register.
    unsafe { asm!("csrr {}, sstatus", out(reg) status, options(nomem, nostack)) };
    status & SIE != 0
}

/// Sleeps until the next interrupt, and takes it. Interrupts are off before and on afterwards.
pub fn enable_and_wait() {
    // SAFETY: the hart wakes up although interrupts are off, so none is missed.
    unsafe { asm!("wfi", options(nostack)) };
    enable();
}

/// Prepares this hart's interrupts.
pub fn init() {
    // SAFETY: traps are set up.
    unsafe { asm!("csrw sie, {}", in(reg) SOFTWARE | TIMER, options(nostack)) };
    set_alarm(u64::MAX);
}

/// Interrupts all other harts.
pub fn call_others() {
    let me = cpu::number();
    for hart in (0..CPUS).filter(|&hart| hart != me) {
        let register = (DIRECT_MAP + CLINT) as usize + 4 * hart;
        // What was written before is to be seen by the other hart.
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        // SAFETY: the hart's register for software interrupts, in the direct map.
        unsafe {
            asm!("fence w, o", options(nostack));
            core::ptr::with_exposed_provenance_mut::<u32>(register).write_volatile(1);
        }
    }
}

/// Ends a software interrupt. To be called before what it asks for is done.
pub fn end_call() {
    // SAFETY: clears the interrupt alone.
    unsafe { asm!("csrc sip, {}", in(reg) SOFTWARE, options(nostack)) };
}

/// Sets the time of the next interrupt.
fn set_alarm(at: u64) {
    // SAFETY: `stimecmp`, which the entry code has given to supervisor mode.
    unsafe { asm!("csrw 0x14d, {}", in(reg) at, options(nostack)) };
}

/// Interrupts this hart again and again, after so many microseconds each time.
pub fn start_ticks(microseconds: u32) {
    TICKS[cpu::number()].store(timer::ticks(microseconds), Relaxed);
    next_tick();
}

/// Ends the timer's interrupt, and sets the time of the next one.
pub fn next_tick() {
    let ticks = TICKS[cpu::number()].load(Relaxed);
    set_alarm(if ticks == 0 { u64::MAX } else { timer::now() + ticks });
}
