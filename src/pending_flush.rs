//! TLB flushes that have begun and not ended.
//!
//! A change takes rights away in three steps: the map changes, the hooks narrow page-table entries,
//! and the TLBs of other processors are flushed. Between the last two, another processor may still
//! write through an entry that is gone. A fault handler that copied a page in that time (copy on
//! write), or put a fresh page at an address that was mapped before, would lose that write. Linux
//! keeps faults and new mappings out with the lock, held until the flush has ended. Here the flush
//! ends after unlock, so the range that it covers is written down, in one of [`SLOTS`] slots:
//!
//! - under the lock, before it changes a VMA, the change takes a slot, writes the range into it,
//!   and from then on leaves the set of slots in use in every node that it links or changes;
//! - a reader who finds such a node looks at those slots; if one is still in use and covers the
//!   page, the reader's token is dead from the start;
//! - after `flush_wait` the slot is given up.
//!
//! Nodes that have not changed while a flush was pending have an empty set, so their readers do not
//! look at the slots at all.
//!
//! With more pending flushes than slots, a flush joins the slot that was taken last, whose range
//! grows to cover both and counts until both have ended. Only the latest slot is ever joined: the
//! others end with the flushes that they have, the first that does becomes the latest, and so every
//! slot ends, however high the load.

use crate::range::PageRange;
use crate::sync::{UserCount, Word};

/// Flushes of one space that can be told apart. The set of them is a part of a node's hot word.
pub(crate) const SLOTS: usize = if cfg!(loom) { 2 } else { 8 };

/// The pending flushes of one address space.
pub(crate) struct PendingFlushes {
    slots: [Slot; SLOTS],
    /// The slot that was taken last. Protected by the space's lock.
    latest: Word,
}

struct Slot {
    /// Flushes that use the slot and have not ended. Raised under the space's lock only.
    users: UserCount,
    /// The first page that they cover, and the one behind the last. Stored under the space's lock
    /// only.
    start: Word,
    end: Word,
}

impl PendingFlushes {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { slots: [const { Slot::free() }; SLOTS], latest: Word::new(0) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { slots: core::array::from_fn(|_| Slot::free()), latest: Word::new(0) }
    }

    /// Returns the set of slots in use. Called by the lock's holder: others may only leave
    /// meanwhile.
    pub(crate) fn in_use(&self) -> u32 {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.users.get() != 0);
        used.fold(0, |set, (index, _)| set | 1 << index)
    }

    /// Takes a slot for a flush of `range`. Called by the lock's holder, before anything changes.
    pub(crate) fn begin(&self, range: PageRange) -> usize {
        let index = if let Some(index) = self.slots.iter().position(|slot| slot.users.get() == 0) {
            self.latest.set(index as u64);
            self.slots[index].store(range);
            index
        } else {
            let latest = self.latest.get() as usize % SLOTS;
            self.extend(latest, range);
            latest
        };
        self.slots[index].users.raise();
        index
    }

    /// Makes the flush of `slot` cover `range` as well. Called by the lock's holder, before
    /// anything there changes.
    pub(crate) fn extend(&self, slot: usize, range: PageRange) {
        let Some(slot) = self.slots.get(slot) else { return };
        let (start, end) = (slot.start.get().min(range.start), slot.end.get().max(range.end));
        slot.store(PageRange::new(start, end));
    }

    /// Gives up a slot: the flush has ended. Called by anybody.
    pub(crate) fn end(&self, slot: usize) {
        if let Some(slot) = self.slots.get(slot) {
            slot.users.lower();
        }
    }

    /// Returns `true` if a flush out of `set` is pending at `page`. Called by anybody who has read
    /// `set` in a node.
    ///
    /// Whoever changed the node took its slot first, so the reader, who acquired the node, sees the
    /// slot in use, or sees the end of that flush and everything before it.
    #[inline]
    pub(crate) fn is_pending_at(&self, set: u32, page: u64) -> bool {
        set != 0 && self.any_covers(set, page)
    }

    /// Kept out of the lookups that it is compiled into: few nodes have changed during a flush.
    #[cold]
    fn any_covers(&self, set: u32, page: u64) -> bool {
        let mut in_set = self.slots.iter().enumerate().filter(|(index, _)| set >> index & 1 != 0);
        in_set.any(|(_, slot)| slot.covers(page))
    }
}

impl Slot {
    #[cfg(not(loom))]
    const fn free() -> Self {
        Self { users: UserCount::new(0), start: Word::new(0), end: Word::new(0) }
    }

    #[cfg(loom)]
    fn free() -> Self {
        Self { users: UserCount::new(0), start: Word::new(0), end: Word::new(0) }
    }

    fn store(&self, range: PageRange) {
        // Release: a reader who finds a slot used again knows that its former flush has ended.
        self.start.set_release(range.start);
        self.end.set_release(range.end);
    }

    fn covers(&self, page: u64) -> bool {
        self.users.get() != 0 && (self.start.acquire()..self.end.acquire()).contains(&page)
    }
}
