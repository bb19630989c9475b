//! RISC-V with the hypervisor extension (the privileged architecture's chapter on "H"): the
//! hypervisor in HS-mode, guests in VS-mode without paging of their own, the second stage Sv39x4.

pub mod entry;
mod fetch;
pub mod guest;
pub mod sbi;
pub mod system;
mod traps;
pub mod vcpu;

use kvma_machine::serial;

pub use self::entry::Entry;

pub const NAME: &str = "RISC-V, Sv39x4";

/// The largest number of blocks of 2 MiB that frames come from.
pub const MOST_BLOCKS: usize = crate::linux::BLOCKS;

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        serial::init();
    }
    vcpu::init();
    traps::init();
}
