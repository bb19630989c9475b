//! AArch64: QEMU's `virt`, at exception level 1.

pub mod page_entry;
pub mod probe;
pub mod signal_frame;
pub mod traps;
pub mod user;

use kvma_machine::gic;

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        gic::init();
    }
    traps::init();
}
