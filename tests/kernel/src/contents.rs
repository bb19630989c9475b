//! The first contents of a page, before any write.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::LinuxVma;
use kvma_trace::Backing;

use crate::frames::Frame;
use crate::probe::{RET, RET_WORD};

/// User data that knows the object of its VMA.
pub trait Contents {
    /// Returns true if every page of the object begins as zeros, because it is not a file.
    fn begins_as_zeros(&self) -> bool;
}

/// The objects of plain VMAs are files.
impl Contents for () {
    fn begins_as_zeros(&self) -> bool {
        false
    }
}

impl Contents for LinuxVma<Backing<'_>> {
    /// True for shared memory without a file.
    fn begins_as_zeros(&self) -> bool {
        self.object().is_some_and(|object| object.name().starts_with("/dev/zero"))
    }
}

/// The origin of a page's first contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Zeros.
    Anonymous,
    /// A page of an object, by its number in the object. Its contents on "the disk" depend on both
    /// numbers, so that a page mapped at a wrong offset is noticed.
    Object { id: u64, page: u64 },
    /// A page of an object that a file system has [registered](crate::page_cache::register).
    Stored { id: u64, page: u64 },
}

/// True if the last byte of every page is a RET instruction, which probes of the kernel execute.
static PROBED: AtomicBool = AtomicBool::new(true);

/// Leaves the contents of pages to programs: the kernel will not probe them.
pub fn are_for_programs() {
    PROBED.store(false, Relaxed);
}

/// Returns true if the kernel probes pages.
pub fn are_probed() -> bool {
    PROBED.load(Relaxed)
}

impl Origin {
    /// Returns the first word of the page.
    pub fn first_word(self) -> u64 {
        self.word(0)
    }

    fn word(self, index: usize) -> u64 {
        match self {
            _ if index == RET_WORD && are_probed() => RET,
            Self::Anonymous | Self::Stored { .. } => 0,
            // Two rounds of multiplication by odd constants: different (id, page, index) differ.
            Self::Object { id, page } => (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ page)
                .wrapping_mul(0xd134_2543_de82_ef95)
                .wrapping_add(index as u64),
        }
    }

    /// Fills a frame with the contents, of an object that has none of its own.
    pub fn fill(self, frame: &Frame) {
        frame.fill(|i| self.word(i));
    }
}
