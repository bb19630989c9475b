//! Four-level page tables (AMD64 Architecture Programmer's Manual, volume 2, section 5.3).

mod entry;
mod kernel_root;
mod table;
mod tables;

pub use self::entry::{Entry, Rights};
pub use self::kernel_root::{image_end, kernel_root};
pub use self::tables::{Removed, Tables};

pub const PAGE_SIZE: u64 = 4096;

/// Page tables of address spaces cover the addresses below this one. Above lie the kernel and
/// `[vsyscall]`, of which there are VMAs but no pages.
pub const LOWER_HALF_END: u64 = 0x8000_0000_0000;
