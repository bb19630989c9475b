//! Flushes under way.
//!
//! A change takes rights away in three steps: the map changes, the hooks narrow page-table entries,
//! and the TLBs of other processors are flushed. Between the last two, another processor may still
//! write through an entry that is gone. A fault handler that copied a page in that time (copy on
//! write), or put a fresh page at an address that was mapped before, would lose that write. Linux
//! keeps faults and new mappings out with the lock, held until the flush has ended. Here the flush
//! ends after unlock, so what it covers is written down, in one of [`SLOTS`] slots:
//!
//! - under the lock, before it changes a VMA, the change takes a slot, writes the range into it,
//!   and from then on leaves the set of slots in use in every node that it links or changes;
//! - a reader who finds such a node looks the slots up; if one is still in use and covers the page,
//!   the reader's token is dead from the start;
//! - after `flush_wait` the slot is given up.
//!
//! Nodes that have not changed while a flush was under way have an empty set, so their readers do
//! not look at the slots at all. A slot may be shared when there are more flushes than slots: its
//! range grows to cover both and counts until both have ended, which costs readers there another
//! try.

use crate::range::Span;
use crate::sync::{Count, Word};

/// Flushes of one space that can be told apart. The set of them is a part of a node's hot word.
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The flushes under way in one address space.
pub(crate) struct PendingFlushes {
    /// Changes whose flush has not ended, for each slot. Raised under the space's lock only.
    users: [Count; SLOTS],
    /// What they cover: first page, and one past the last. Stored under the space's lock only.
    spans: [(Word, Word); SLOTS],
}

impl PendingFlushes {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> PendingFlushes {
        PendingFlushes {
            users: [const { Count::zero() }; SLOTS],
            spans: [const { (Word::new(0), Word::new(0)) }; SLOTS],
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> PendingFlushes {
        PendingFlushes {
            users: core::array::from_fn(|_| Count::zero()),
            spans: core::array::from_fn(|_| (Word::new(0), Word::new(0))),
        }
    }

    /// The slots in use. By the lock's holder: others may only leave meanwhile.
    pub(crate) fn in_use(&self) -> u32 {
        (0..SLOTS).filter(|&slot| self.users[slot].get() != 0).fold(0, |set, slot| set | 1 << slot)
    }

    /// Takes a slot for a flush of `span`. By the lock's holder, before anything changes.
    pub(crate) fn begin(&self, span: Span) -> usize {
        let free = (0..SLOTS).find(|&slot| self.users[slot].get() == 0);
        let slot = match free {
            Some(slot) => {
                self.store(slot, span);
                slot
            }
            None => {
                let slot = span.start as usize % SLOTS;
                self.extend(slot, span);
                slot
            }
        };
        self.users[slot].raise();
        slot
    }

    /// The flush of `slot` covers `span`, too. By the lock's holder, before anything there changes.
    pub(crate) fn extend(&self, slot: usize, span: Span) {
        let (start, end) = &self.spans[slot];
        self.store(slot, Span::new(start.get().min(span.start), end.get().max(span.end)));
    }

    fn store(&self, slot: usize, span: Span) {
        // Release: a reader who finds a slot used again knows that its former flush has ended.
        self.spans[slot].0.set_release(span.start);
        self.spans[slot].1.set_release(span.end);
    }

    /// The flush has ended. By anybody.
    pub(crate) fn end(&self, slot: usize) {
        self.users[slot].lower()
    }

    /// Whether a flush out of `set` is under way at `page`. By anybody who read `set` in a node.
    ///
    /// Whoever changed the node took its slot first, so the reader, who acquired the node, sees the
    /// slot in use, or sees the end of that flush and everything before it.
    #[inline]
    pub(crate) fn cover(&self, set: u32, page: u64) -> bool {
        set != 0 && self.any_covers(set, page)
    }

    /// Kept out of the lookups that it is compiled into: few nodes have changed during a flush.
    #[cold]
    fn any_covers(&self, set: u32, page: u64) -> bool {
        (0..SLOTS).any(|slot| set >> slot & 1 != 0 && self.covers(slot, page))
    }

    fn covers(&self, slot: usize, page: u64) -> bool {
        let (start, end) = &self.spans[slot];
        self.users[slot].get() != 0 && (start.acquire()..end.acquire()).contains(&page)
    }
}
