//! The tree of page tables, and how it is walked.
//!
//! Walks go from the top down and skip absent subtrees, so that a terabyte with a few mapped pages
//! is removed in a few steps. Empty tables leave the tree at once, but the caller must free them
//! after the flush: the processor caches entries of tables as well as of pages.

use super::spare::Spares;
use super::table::{ENTRIES, Table};
use super::{Entry, PAGE_SIZE, Rights};
use crate::frames::{self, Frame, FrameList, Use};

/// The level of the tables whose entries are all leaves. The root's level is [`TOP`].
pub(super) const LEAF: u32 = 1;
pub(super) const TOP: u32 = 4;

/// A part that was removed from the tree. It may be freed after the TLB flush.
pub enum Removed {
    /// The page at this address, and its entry; or the 2 MiB, and their large leaf.
    Page(u64, Entry),
    /// An empty table.
    Table(Frame),
}

/// The page tables of an address space.
pub struct Tables {
    pub(super) root: Table,
    /// One for each large leaf.
    pub(super) spares: Spares,
}

/// Returns the bytes that an entry of this level covers.
const fn entry_size(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

pub(super) fn index(address: u64, level: u32) -> usize {
    (address / entry_size(level)) as usize % ENTRIES
}

impl Tables {
    /// Makes empty tables. `None` without memory.
    pub fn new() -> Option<Self> {
        let root = Table::in_frame(frames::allocate(Use::Table)?);
        Some(Self { root, spares: Spares::new() })
    }

    /// Makes tables with a root of their own, an empty lower half and the same upper half. `None`
    /// without memory.
    pub fn sibling(&self) -> Option<Self> {
        let mut sibling = Self::new()?;
        for slot in ENTRIES / 2..ENTRIES {
            sibling.set_root_entry(slot, self.root_entry(slot));
        }
        Some(sibling)
    }

    /// Frees the root, which no processor may use. The lower half must be empty, and the upper half
    /// belong to other tables as well.
    pub fn free(self) {
        assert!(
            (0..ENTRIES / 2).all(|slot| self.root.get(slot) == Entry::EMPTY),
            "tables left behind"
        );
        assert!(self.spares.len() == 0, "spare tables left behind");
        // SAFETY: `new` has made the root from a frame, and nothing else refers to it.
        frames::free(unsafe { Frame::from_address(self.root.address()) });
    }

    /// Returns the physical address of the root.
    pub fn root(&self) -> u64 {
        self.root.address()
    }

    /// Sets an entry of the root, for the part that all address spaces share.
    pub(super) fn set_root_entry(&mut self, slot: usize, entry: Entry) {
        self.root.set(slot, entry);
    }

    pub(super) fn root_entry(&self, slot: usize) -> Entry {
        self.root.get(slot)
    }

    /// Returns the entry of the page that holds `address`, if it is used. In a large leaf, that is
    /// the entry that the page would have if the leaf were split.
    pub fn find(&self, address: u64) -> Option<Entry> {
        let mut table = self.root;
        for level in (LEAF + 1..=TOP).rev() {
            let entry = table.get(index(address, level));
            if entry.is_large() {
                return Some(entry.page_of_large(index(address, LEAF)));
            }
            table = Table::below(entry)?;
        }
        Some(table.get(index(address, LEAF))).filter(|e| e.is_used())
    }

    /// Returns the table of a level that has the entry of `address`. Tables that are missing are
    /// made from `preallocated` first. `Err` without memory for one.
    pub(super) fn table(
        &mut self,
        address: u64,
        of: u32,
        preallocated: &mut FrameList,
    ) -> Result<Table, ()> {
        let mut table = self.root;
        for level in (of + 1..=TOP).rev() {
            let slot = index(address, level);
            let entry = table.get(slot);
            assert!(!entry.is_large(), "address {address:#x} lies in a large leaf");
            table = match Table::below(entry) {
                Some(below) => below,
                None => {
                    let frame =
                        preallocated.pop().or_else(|| frames::allocate(Use::Table)).ok_or(())?;
                    let below = Table::in_frame(frame);
                    table.set(slot, Entry::table(below.address()));
                    below
                }
            };
        }
        Ok(table)
    }

    /// Sets the entry of a page that has none. Tables that are missing are made from `preallocated`
    /// first. `Err` without memory for one.
    pub fn map(
        &mut self,
        address: u64,
        entry: Entry,
        preallocated: &mut FrameList,
    ) -> Result<(), ()> {
        let table = self.table(address, LEAF, preallocated)?;
        let slot = index(address, LEAF);
        assert!(!table.get(slot).is_used(), "page {address:#x} is mapped already");
        table.set(slot, entry);
        Ok(())
    }

    /// Visits the used entries of the pages `first..=last` in ascending order, large leaves among
    /// them, and lets `change` replace each. The spare table of a large leaf goes with it.
    pub fn update(&mut self, first: u64, last: u64, mut change: impl FnMut(u64, Entry) -> Entry) {
        visit(self.root, TOP, first, last, &mut |table, slot, page| {
            let old = table.get(slot);
            let new = change(page, old);
            if new != old {
                table.set(slot, new);
            }
            if old.is_large() && !new.is_large() {
                self.spares.free_one();
            }
        });
    }

    /// Visits the used entries of the pages `first..=last` in ascending order. A large leaf is
    /// visited as the pages that it would be split into.
    pub fn for_each(&self, first: u64, last: u64, mut see: impl FnMut(u64, Entry)) {
        for_each_below(self.root, TOP, first, last, &mut see);
    }

    /// Returns the first page in `first..=last` whose entry is used, and the entry, which may be a
    /// large leaf.
    pub fn first(&self, first: u64, last: u64) -> Option<(u64, Entry)> {
        first_below(self.root, TOP, first, last)
    }

    /// Removes the entries of the pages `first..=last` in ascending order, and then the tables that
    /// have become empty.
    pub fn remove(&mut self, first: u64, last: u64, mut removed: impl FnMut(Removed)) {
        remove_below(self.root, TOP, first, last, &mut |part| {
            if let Removed::Page(_, entry) = part
                && entry.is_large()
            {
                self.spares.free_one();
            }
            removed(part);
        });
    }
}

/// Iterates over the slots of a table of this level that `first..=last` reaches, each with its part
/// of the range. `first` and `last` lie below the same entry of the level above.
fn slots(level: u32, first: u64, last: u64) -> impl Iterator<Item = (usize, u64, u64)> {
    let size = entry_size(level);
    (index(first, level)..=index(last, level)).map(move |slot| {
        let begin = (first & !(size * ENTRIES as u64 - 1)).wrapping_add(slot as u64 * size);
        (slot, begin.max(first), (begin + (size - 1)).min(last))
    })
}

/// Returns true if `first..=last` is all that an entry of this level covers.
fn is_whole(level: u32, first: u64, last: u64) -> bool {
    last - first == entry_size(level) - 1
}

/// Visits used entries. Large leaves that the range cuts are passed over.
pub(super) fn visit(
    table: Table,
    level: u32,
    first: u64,
    last: u64,
    see: &mut impl FnMut(Table, usize, u64),
) {
    for (slot, first, last) in slots(level, first, last) {
        let entry = table.get(slot);
        if level == LEAF {
            if entry.is_used() {
                see(table, slot, first & !(PAGE_SIZE - 1));
            }
        } else if entry.is_large() {
            if is_whole(level, first, last) {
                see(table, slot, first);
            }
        } else if let Some(below) = Table::below(entry) {
            visit(below, level - 1, first, last, see);
        }
    }
}

fn for_each_below(
    table: Table,
    level: u32,
    first: u64,
    last: u64,
    see: &mut impl FnMut(u64, Entry),
) {
    for (slot, first, last) in slots(level, first, last) {
        let entry = table.get(slot);
        if level == LEAF {
            if entry.is_used() {
                see(first & !(PAGE_SIZE - 1), entry);
            }
        } else if entry.is_large() {
            for page in (first & !(PAGE_SIZE - 1)..=last).step_by(PAGE_SIZE as usize) {
                see(page, entry.page_of_large(index(page, LEAF)));
            }
        } else if let Some(below) = Table::below(entry) {
            for_each_below(below, level - 1, first, last, see);
        }
    }
}

fn first_below(table: Table, level: u32, first: u64, last: u64) -> Option<(u64, Entry)> {
    slots(level, first, last).find_map(|(slot, first, last)| {
        let entry = table.get(slot);
        if level == LEAF || entry.is_large() {
            entry.is_used().then_some((first & !(PAGE_SIZE - 1), entry))
        } else {
            first_below(Table::below(entry)?, level - 1, first, last)
        }
    })
}

fn remove_below(
    table: Table,
    level: u32,
    first: u64,
    last: u64,
    removed: &mut impl FnMut(Removed),
) {
    for (slot, first, last) in slots(level, first, last) {
        let entry = table.get(slot);
        if level == LEAF {
            if entry.is_used() {
                table.set(slot, Entry::EMPTY);
                removed(Removed::Page(first & !(PAGE_SIZE - 1), entry));
            }
        } else if entry.is_large() {
            // Passed over if the range cuts it.
            if is_whole(level, first, last) {
                table.set(slot, Entry::EMPTY);
                removed(Removed::Page(first, entry));
            }
        } else if let Some(below) = Table::below(entry) {
            remove_below(below, level - 1, first, last, removed);
            if below.is_empty() {
                table.set(slot, Entry::EMPTY);
                // SAFETY: `table` or `end_split` has made the table from a frame, and the entry
                // that was just removed held the only reference.
                removed(Removed::Table(unsafe { Frame::from_address(below.address()) }));
            }
        }
    }
}

impl Rights {
    /// Returns true if `self` allows an access that `other` does not.
    pub fn exceeds(self, other: Self) -> bool {
        (self.load && !other.load) || (self.store && !other.store) || (self.fetch && !other.fetch)
    }
}
