//! The interrupt controller (Arm's Generic Interrupt Controller, architecture version 2): one
//! distributor, and an interface for each processor.

use crate::memory_map::{DIRECT_MAP, GICC, GICD};

/// The interrupt that processors send each other, and the one of the virtual timer.
pub const CALL: u32 = 1;
pub const TICK: u32 = 27;

/// Registers, by their distance from the beginning of a part.
mod distributor {
    pub const CONTROL: u64 = 0;
    pub const ENABLE: u64 = 0x100;
    pub const SOFTWARE: u64 = 0xf00;
}
mod interface {
    pub const CONTROL: u64 = 0;
    pub const PRIORITY_MASK: u64 = 4;
    pub const ACKNOWLEDGE: u64 = 0xc;
    pub const END: u64 = 0x10;
}

fn register(physical: u64) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + physical) as usize)
}

fn write(physical: u64, value: u32) {
    // SAFETY: one of the registers above, which the direct map covers and which concern interrupts
    // alone.
    unsafe { register(physical).write_volatile(value) };
}

/// Turns the distributor on.
pub fn init() {
    write(GICD + distributor::CONTROL, 1);
}

/// Turns this processor's interface on.
pub fn init_processor() {
    write(GICD + distributor::ENABLE, 1 << CALL | 1 << TICK);
    write(GICC + interface::PRIORITY_MASK, 0xff);
    write(GICC + interface::CONTROL, 1);
}

/// Interrupts all other processors.
pub fn call_others() {
    const ALL_BUT_SELF: u32 = 1 << 24;
    write(GICD + distributor::SOFTWARE, ALL_BUT_SELF | CALL);
}

/// Takes an interrupt, and returns what [`end`] wants.
pub fn acknowledge() -> u32 {
    // SAFETY: as in `write`.
    unsafe { register(GICC + interface::ACKNOWLEDGE).read_volatile() }
}

/// Returns the number of an interrupt that was taken.
pub fn number(acknowledged: u32) -> u32 {
    acknowledged & 0x3ff
}

/// Ends an interrupt.
pub fn end(acknowledged: u32) {
    write(GICC + interface::END, acknowledged);
}
