//! Each processor's local interrupt controller (AMD64 Architecture Programmer's Manual, volume 2,
//! chapter 16): how processors interrupt each other, and the timer of each.

use x86_64::instructions::port::Port;

use crate::memory_map::DIRECT_MAP;

/// Its address in every PC. The direct map covers it. An emulator does not mind that it is cached.
const BASE: u64 = 0xfee0_0000;

/// The interrupt that processors send each other.
pub const CALL: u8 = 0x40;
/// The timer's interrupt.
pub const TICK: u8 = 0x41;
/// The spurious interrupt, which needs no end-of-interrupt.
pub const SPURIOUS: u8 = 0xff;

#[derive(Clone, Copy)]
enum Register {
    EndOfInterrupt = 0xb0,
    Spurious = 0xf0,
    /// Low half; with a shorthand for the destination, the high one is not used.
    Command = 0x300,
    /// The vector of the timer, and how it goes on.
    Timer = 0x320,
    TimerStart = 0x380,
    TimerNow = 0x390,
    TimerDivisor = 0x3e0,
}

const ALL_BUT_SELF: u32 = 3 << 18;
const ASSERT: u32 = 1 << 14;
const FIXED: u32 = 0;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;

fn write(register: Register, value: u32) {
    let address = (DIRECT_MAP + BASE) as usize + register as usize;
    // SAFETY: a register of this processor's controller, which the direct map covers. None of the
    // registers above reads or writes memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) };
}

/// Turns this processor's controller on.
pub fn init() {
    const ENABLE: u32 = 1 << 8;
    write(Register::Spurious, ENABLE | u32::from(SPURIOUS));
}

fn read(register: Register) -> u32 {
    let address = (DIRECT_MAP + BASE) as usize + register as usize;
    // SAFETY: as in `write`.
    unsafe { core::ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Interrupts this processor again and again, after so many microseconds each time.
pub fn start_ticks(microseconds: u32) {
    const MASKED: u32 = 1 << 16;
    const PERIODIC: u32 = 1 << 17;
    const BY_SIXTEEN: u32 = 3;
    const MEASURED: u32 = 1000;
    write(Register::TimerDivisor, BY_SIXTEEN);
    write(Register::Timer, MASKED | u32::from(TICK));
    write(Register::TimerStart, u32::MAX);
    super::timer::delay_microseconds(u64::from(MEASURED));
    let passed = u32::MAX - read(Register::TimerNow);
    write(Register::Timer, PERIODIC | u32::from(TICK));
    write(Register::TimerStart, (passed / MEASURED).max(1).saturating_mul(microseconds));
}

/// Masks the old interrupt controllers: the firmware may have left a timer running.
pub fn mask_legacy() {
    for port in [0x21, 0xa1] {
        // SAFETY: the mask registers of the two controllers that every PC has.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Interrupts all other processors.
pub fn call_others() {
    write(Register::Command, ALL_BUT_SELF | ASSERT | FIXED | u32::from(CALL));
}

/// Ends an interrupt. To be called at the end of all but spurious ones.
pub fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Resets all other processors.
pub(super) fn init_others() {
    write(Register::Command, ALL_BUT_SELF | ASSERT | INIT);
}

/// Starts all other processors that were reset, at the beginning of this page.
pub(super) fn start_others(page: u8) {
    write(Register::Command, ALL_BUT_SELF | ASSERT | STARTUP | u32::from(page));
}
