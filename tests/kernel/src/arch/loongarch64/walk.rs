//! A look into the tables that the processor uses, as `kvma-machine`'s handler that fills the TLB
//! takes one.

use kvma_machine::cpu;

use super::page_entry::Entry;
use crate::frames;

/// Returns true if the page that holds `address` is present. Interrupts must be off: then no table
/// is freed meanwhile, since this processor has not yet said that it has forgotten it.
pub fn is_present(address: u64) -> bool {
    let mut table = cpu::root();
    for shift in [39, 30, 21, 12] {
        let index = (address >> shift) as usize % 512;
        // SAFETY: a table of those in use, which the direct map covers. Volatile, because the other
        // processor may change it.
        let entry = Entry::from_bits(unsafe { frames::direct(table).add(index).read_volatile() });
        if !entry.is_present() || shift == 12 || entry.is_large() {
            return entry.is_present();
        }
        table = entry.address();
    }
    false
}
