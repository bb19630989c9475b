//! A thread's view between a page-table edit and the TLB flush.
//!
//! Until the flush, a processor may use the entries that it has cached. A thread that runs in this
//! window may use the old page or be refused, but must never see a freed frame. The second
//! processor runs in this window by chance. The one that makes the change never does, so its hooks
//! load from a page right before the entry is removed, which caches the entry, and again right
//! before the flush.

use crate::frames::POISON;
use crate::probe;

const WATCHED: usize = 8;

/// The pages that were loaded from.
pub struct Witness {
    /// Pages and their first words.
    seen: [(u64, u64); WATCHED],
    len: usize,
}

impl Witness {
    pub const fn new() -> Self {
        Self { seen: [(0, 0); WATCHED], len: 0 }
    }

    /// Loads from the page before its entry is removed.
    pub fn before(&mut self, page: u64) {
        if self.len < WATCHED
            && let Some(value) = probe::try_load(page)
        {
            self.seen[self.len] = (page, value);
            self.len += 1;
        }
    }

    /// Loads from the pages again, right before the flush. `is_mapped` says if a page has an entry.
    ///
    /// # Panics
    ///
    /// If a page shows a freed frame.
    pub fn before_flush(&mut self, is_mapped: impl Fn(u64) -> bool) {
        for &(page, old) in &self.seen[..core::mem::take(&mut self.len)] {
            if is_mapped(page) {
                // Another page was moved there, and may be seen already.
                continue;
            }
            // The other processor may have written to the page meanwhile.
            assert!(
                probe::try_load(page) != Some(POISON),
                "page {page:#x} held {old:#x} and shows {POISON:#x} before its TLB entry is \
                 flushed: its frame was freed too early"
            );
        }
    }
}
