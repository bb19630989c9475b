//! Four-level page tables.

mod kernel_root;
mod large;
mod spare;
mod table;
mod tables;

pub use self::kernel_root::kernel_root;
pub use self::large::block_of;
pub use self::tables::{Removed, Tables};
pub use crate::arch::Rights;
pub use crate::arch::page_entry::Entry;

pub const PAGE_SIZE: u64 = 4096;

/// Page tables of address spaces cover the addresses below this one. Above lie the kernel and
/// `[vsyscall]`, of which there are VMAs but no pages.
pub const LOWER_HALF_END: u64 = 0x8000_0000_0000;
