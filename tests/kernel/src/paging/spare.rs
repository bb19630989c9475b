//! Spare tables: one for each large leaf, so that the leaf can be split without memory, as Linux
//! deposits a page table for each huge page.

use crate::frames::{self, Frame};

/// A stack of frames for tables, linked through their first words.
pub struct Spares {
    first: Option<u64>,
    len: usize,
}

impl Spares {
    pub const fn new() -> Self {
        Self { first: None, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, frame: Frame) {
        let next = self.first.unwrap_or(0);
        frame.write(0, &next.to_ne_bytes());
        self.first = Some(frame.into_address());
        self.len += 1;
    }

    /// Takes the spare table of a leaf.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn pop(&mut self) -> Frame {
        let address = self.first.expect("a large leaf without a spare table");
        // SAFETY: `push` has put the address there, and it is taken out.
        let frame = unsafe { Frame::from_address(address) };
        self.first = Some(frame.word(0)).filter(|&next| next != 0);
        self.len -= 1;
        frame
    }

    /// Frees the spare table of a leaf that has gone. No processor has seen it.
    pub fn free_one(&mut self) {
        frames::free(self.pop());
    }
}
