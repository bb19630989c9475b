//! What a page holds before anybody writes to it.

use crate::{
    frames::Frame,
    probe::{RET, RET_WORD},
};
use kvma::linux::LinuxVma;
use kvma_trace::Backing;

/// What a VMA's data say about the object that it shows.
pub trait Contents {
    /// Whether every page of the object begins as zeros, because there is no file behind it.
    fn begins_as_zeros(&self) -> bool;
}

/// Plain VMAs show files.
impl Contents for () {
    fn begins_as_zeros(&self) -> bool {
        false
    }
}

impl Contents for LinuxVma<Backing<'_>> {
    /// Shared memory without a file.
    fn begins_as_zeros(&self) -> bool {
        self.object().is_some_and(|object| object.name().starts_with("/dev/zero"))
    }
}

/// Where a page's first contents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Zeros.
    Anonymous,
    /// This page (retry_with_nodes in pages) of this object. What "the disk" holds depends on both,
    /// so that a page mapped at a wrong offset is noticed.
    Object { id: u64, page: u64 },
}

impl Origin {
    /// The first word of the page.
    pub fn first_word(self) -> u64 {
        self.word(0)
    }

    fn word(self, index: usize) -> u64 {
        match self {
            _ if index == RET_WORD => RET,
            Self::Anonymous => 0,
            // Two rounds of multiplication by odd constants: different (id, page, index) differ.
            Self::Object { id, page } => (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ page)
                .wrapping_mul(0xd134_2543_de82_ef95)
                .wrapping_add(index as u64),
        }
    }

    pub fn fill(self, frame: &Frame) {
        frame.fill(|i| self.word(i));
    }
}
