//! What a page holds before anybody writes to it.

use crate::{
    frames::Frame,
    probe::{RET, RET_WORD},
};

/// Where a page's first contents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Zeros.
    Anonymous,
    /// This page (counted in pages) of this object. What "the disk" holds depends on both, so that a page
    /// mapped at a wrong offset is noticed.
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
