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

/// The slot of one change: taken the first time that rights are taken away, given up when the flush
/// has ended, at the latest when this is dropped. It lies with whoever takes the space's lock, not
/// in the `Update`: the code that gets one may put another in its place, and forget it.
pub(crate) struct FlushSlot<'p> {
    flushes: &'p PendingFlushes,
    /// The slot's number and one, 0 before it is taken. Nobody else looks at it.
    taken: Word,
}

impl<'p> FlushSlot<'p> {
    pub(crate) fn new(flushes: &'p PendingFlushes) -> Self {
        Self { flushes, taken: Word::new(0) }
    }

    /// Makes the flush cover `range`, and returns the set of slots in use. Called by the lock's
    /// holder, before anything there changes.
    pub(crate) fn cover(&self, range: PageRange) -> u32 {
        match self.taken.get() {
            0 => self.taken.set(self.flushes.begin(range) as u64 + 1),
            taken => self.flushes.extend(taken as usize - 1, range),
        }
        self.flushes.in_use()
    }

    /// Returns `true` from the first `cover` to the `end`.
    pub(crate) fn is_taken(&self) -> bool {
        self.taken.get() != 0
    }

    /// Gives the slot up, if it was taken: the flush has ended.
    pub(crate) fn end(&self) {
        if let Some(slot) = self.taken.get().checked_sub(1) {
            self.flushes.end(slot as usize);
            self.taken.set(0);
        }
    }

    /// Calls `wait` and gives the slot up, if it is still taken when the update is gone: then the
    /// update was forgotten, and nobody has waited for its flush.
    pub(crate) fn end_if_forgotten(self, wait: impl FnOnce()) {
        if self.is_taken() {
            wait();
        }
    }
}

impl Drop for FlushSlot<'_> {
    fn drop(&mut self) {
        self.end();
    }
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
    fn begin(&self, range: PageRange) -> usize {
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
    fn extend(&self, slot: usize, range: PageRange) {
        let Some(slot) = self.slots.get(slot) else { return };
        let (start, end) = (slot.start.get().min(range.start), slot.end.get().max(range.end));
        slot.store(PageRange::new(start, end));
    }

    /// Gives up a slot: the flush has ended. Called by anybody.
    fn end(&self, slot: usize) {
        if let Some(slot) = self.slots.get(slot) {
            slot.users.lower();
        }
    }

    /// Returns `true` if a flush out of `set` is pending at `page`. Called by anybody who has read
    /// `set` in a node.
    ///
    /// Whoever changed the node took its slot first, so the reader, who acquired the node, sees the
    /// slot in use, or sees the end of that flush and everything before it.
    pub(crate) fn is_pending_at(&self, set: u32, page: u64) -> bool {
        set != 0 && self.any_covers(set, page)
    }

    /// Returns `true` if a flush is pending at any of `pages`. Called by anybody.
    pub(crate) fn is_pending_in(&self, pages: PageRange) -> bool {
        self.slots.iter().any(|slot| slot.overlaps(pages))
    }

    /// Kept out of the lookups that it is compiled into: few nodes have changed during a flush.
    #[cold]
    fn any_covers(&self, set: u32, page: u64) -> bool {
        let mut in_set = self.slots.iter().enumerate().filter(|(index, _)| set >> index & 1 != 0);
        let page = PageRange::new(page, page.saturating_add(1));
        in_set.any(|(_, slot)| slot.overlaps(page))
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

    /// Returns `true` if the slot is in use, and shares a page with `pages`.
    fn overlaps(&self, pages: PageRange) -> bool {
        self.users.get() != 0
            && self.start.acquire() < pages.end
            && pages.start < self.end.acquire()
    }
}
