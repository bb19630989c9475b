//! AArch64: the hypervisor at exception level 2 with the virtualization host extensions, guests at
//! level 1 without paging of their own, the second stage from level 1 of the tables on (Arm
//! Architecture Reference Manual, chapters D1 and D8).

pub mod entry;
mod guest;
mod traps;
pub mod vcpu;

use kvma_machine::gic;

pub use self::entry::Entry;

pub const NAME: &str = "AArch64, stage 2 of 39 bits";

/// The largest number of blocks of 2 MiB that frames come from.
pub const MOST_BLOCKS: usize = 48;

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        gic::init();
    }
    vcpu::init();
    traps::init();
}
