//! LoongArch with 64 bits: QEMU's `virt`, without firmware.

pub mod page_entry;
pub mod probe;
pub mod signal_frame;
pub mod traps;
pub mod user;
mod walk;

use kvma_machine::serial;

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        serial::init();
    }
    traps::init();
}
