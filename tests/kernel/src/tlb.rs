//! What a change of page tables owes: TLB entries to drop, and then frames to free. In this order,
//! always.

use crate::{
    arch::cpu,
    broken::Broken,
    frames::{self, Frame, FrameList},
    shootdown::{self, Pending},
};

/// Pages flushed one by one; beyond, dropping everything is cheaper.
const ONE_BY_ONE: usize = 32;

/// Gathers what one update owes.
#[must_use]
pub struct Gather {
    pages: [u64; ONE_BY_ONE],
    /// How many pages changed; `pages` holds the first of them.
    changed: usize,
    /// What the other processor has been asked for last.
    pending: Option<Pending>,
    frames: FrameList,
}

impl Gather {
    pub const fn new() -> Self {
        Self { pages: [0; ONE_BY_ONE], changed: 0, pending: None, frames: FrameList::new() }
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

    /// Drops this processor's TLB entries, and asks the other one to drop its own. Does not wait.
    pub fn begin_flush(&mut self) {
        let changed = core::mem::take(&mut self.changed);
        if changed == 0 || Broken::NoFlush.is_chosen() {
            return;
        }
        match self.pages.get(..changed) {
            Some(pages) => pages.iter().for_each(|&page| cpu::flush_page(page)),
            None => cpu::flush_all(),
        }
        if !Broken::NoShootdown.is_chosen() {
            // An earlier request is done when this one is.
            self.pending = shootdown::begin();
        }
    }

    /// Waits for the other processor, and frees the frames.
    pub fn finish(&mut self) {
        assert!(self.changed == 0, "frames freed before their TLB entries are gone");
        if let Some(pending) = self.pending.take() {
            pending.wait();
        }
        self.frames.free_all();
    }
}
