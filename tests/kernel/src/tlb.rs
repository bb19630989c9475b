//! The work that a change of page tables leaves: first the TLB flush, then the frames to free.
//! Always in this order.

use crate::arch::cpu;
use crate::broken::Broken;
use crate::frames::{self, Frame, FrameList};
use crate::paging::Tables;
use crate::shootdown::{self, Pending};
use crate::{cpus, stale};

/// Drops all TLB entries of this processor if the other one has asked for it, and tries accesses if
/// it has asked for that. For the handler of its interrupt, with interrupts off.
pub fn serve_others() {
    if !Broken::NoAcknowledge.is_chosen() {
        shootdown::serve(cpu::flush_all);
    }
    stale::serve_others();
}

/// Up to so many pages are flushed one by one. For more it is cheaper to drop all entries.
const ONE_BY_ONE: usize = 32;

/// Gathers the pages to flush and the frames to free of one change, like Linux' `mmu_gather`.
#[must_use]
pub struct Gather {
    /// The tables that change.
    root: u64,
    pages: [u64; ONE_BY_ONE],
    /// The number of pages that have changed. `pages` holds the first of them.
    changed: usize,
    /// The number of pages in `pages` for which the last flush was.
    flushed: usize,
    /// The last request to the other processor.
    pending: Option<Pending>,
    frames: FrameList,
}

impl Gather {
    /// Gathers for a change of the tables below `root`.
    pub const fn new(root: u64) -> Self {
        let (pages, frames) = ([0; ONE_BY_ONE], FrameList::new());
        Self { root, pages, changed: 0, flushed: 0, pending: None, frames }
    }

    /// Notes that the entry of a page was removed or lost rights.
    pub fn flush_later(&mut self, page: u64) {
        if let Some(slot) = self.pages.get_mut(self.changed) {
            *slot = page;
        }
        self.changed += 1;
    }

    /// Takes a reference that a removed entry has held.
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
        if changed > 0 {
            self.flushed = changed.min(ONE_BY_ONE);
        }
        if changed == 0 || Broken::NoFlush.is_chosen() {
            return;
        }
        match self.pages.get(..changed) {
            Some(pages) => pages.iter().for_each(|&page| cpu::flush_page(page)),
            None => cpu::flush_all(),
        }
        if !Broken::NoShootdown.is_chosen() {
            // An earlier request is done when this one is.
            self.pending =
                shootdown::begin(|cpu| cpus::uses(cpu, self.root)).or(self.pending.take());
        }
    }

    /// Waits for the other processor.
    pub fn wait(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.wait();
        }
    }

    /// Waits for the other processor, checks that no [stale](crate::stale) entry is left, then
    /// frees the frames. The caller holds the page-table lock of these tables.
    pub fn finish(&mut self, tables: &Tables) {
        assert!(self.changed == 0, "frames freed before their TLB entries are gone");
        self.wait();
        stale::check(tables, &self.pages[..core::mem::take(&mut self.flushed)]);
        self.frames.free_all();
    }
}
