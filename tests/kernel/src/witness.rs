//! Another thread's view between a page-table edit and the TLB flush.
//!
//! Until the flush, a processor may still use the entries that it has cached. A thread that runs in
//! this window may use the old page or be refused; what it must never see is a freed frame. The
//! second processor runs in this window when it happens to; the one that makes the change never
//! does by itself, so it looks there: it loads from a page right before its entry is removed, which
//! puts the entry into the TLB, and again right before the flush.

use crate::{frames::POISON, probe};

const WATCHED: usize = 8;

pub struct Witness {
    /// Pages and what they held.
    seen: [(u64, u64); WATCHED],
    len: usize,
}

impl Witness {
    pub const fn new() -> Self {
        Self { seen: [(0, 0); WATCHED], len: 0 }
    }

    /// Looks at the page before its entry goes.
    pub fn before(&mut self, page: u64) {
        if self.len < WATCHED
            && let Some(value) = probe::glimpse(page)
        {
            self.seen[self.len] = (page, value);
            self.len += 1;
        }
    }

    /// Looks again, right before the flush. `is_mapped` says whether a page has an entry.
    ///
    /// # Panics
    ///
    /// If a page shows a freed frame.
    pub fn before_flush(&mut self, is_mapped: impl Fn(u64) -> bool) {
        for &(page, old) in &self.seen[..core::mem::take(&mut self.len)] {
            if is_mapped(page) {
                // Another page was moved there, and may be seen or not.
                continue;
            }
            // The other processor may have written to the page meanwhile.
            assert!(
                probe::glimpse(page) != Some(POISON),
                "page {page:#x} held {old:#x} and shows {POISON:#x} before its TLB entry is flushed: \
                 its frame was freed too early"
            );
        }
    }
}
