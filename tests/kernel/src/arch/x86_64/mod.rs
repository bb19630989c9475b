//! x86-64: a PC of QEMU's, started by PVH.

pub mod page_entry;
pub mod probe;
pub mod signal_frame;
pub mod traps;
pub mod user;

use kvma_machine::{apic, serial, timer};

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        serial::init();
        apic::mask_legacy();
    }
    traps::init(number);
    if number == 0 {
        timer::calibrate();
    }
}
