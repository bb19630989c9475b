//! What a change of page tables owes: TLB entries to drop, and then frames to free. In this order, always.

use crate::{
    arch::cpu,
    broken::Broken,
    frames::{self, Frame, FrameList},
};

/// Pages flushed one by one; beyond, dropping everything is cheaper.
const ONE_BY_ONE: usize = 32;

/// Gathers what one update owes.
#[must_use]
pub struct Gather {
    pages: [u64; ONE_BY_ONE],
    /// How many pages changed; `pages` holds the first of them.
    changed: usize,
    frames: FrameList,
}

impl Gather {
    pub const fn new() -> Self {
        Self { pages: [0; ONE_BY_ONE], changed: 0, frames: FrameList::new() }
    }

    /// The entry of this page was removed or lost rights.
    pub fn flush_later(&mut self, page: u64) {
        if let Some(slot) = self.pages.get_mut(self.changed) {
            *slot = page;
        }
        self.changed += 1;
    }

    /// The frame lost its last entry.
    pub fn free_later(&mut self, frame: Frame) {
        if Broken::EarlyFree.is_chosen() {
            frames::free(frame);
        } else {
            self.frames.push(frame);
        }
    }

    /// Drops the TLB entries.
    pub fn flush(&mut self) {
        let changed = core::mem::take(&mut self.changed);
        if Broken::NoFlush.is_chosen() {
            return;
        }
        match self.pages.get(..changed) {
            Some(pages) => pages.iter().for_each(|&page| cpu::flush_page(page)),
            None => cpu::flush_all(),
        }
    }

    /// Frees the frames.
    pub fn free(&mut self) {
        assert!(self.changed == 0, "frames freed before their TLB entries are gone");
        self.frames.free_all();
    }
}
