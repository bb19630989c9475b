//! x86-64 with SVM (AMD64 Architecture Programmer's Manual, volume 2, chapter 15): guests in
//! 32-bit mode without paging of their own, the second stage by nested paging.

pub mod entry;
mod guest;
mod traps;
pub mod vcpu;

use kvma_machine::{apic, serial, timer};

pub use self::entry::Entry;

pub const NAME: &str = "x86-64, nested paging";

/// The largest number of blocks of 2 MiB that frames come from.
pub const MOST_BLOCKS: usize = 48;

/// Prepares processor `number`. The first one comes first.
pub fn init(number: usize) {
    if number == 0 {
        serial::init();
        apic::mask_legacy();
    }
    traps::init(number);
    vcpu::init(number);
    if number == 0 {
        timer::calibrate();
    }
}
