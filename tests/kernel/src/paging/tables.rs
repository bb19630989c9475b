//! A tree of page tables: the walker.
//!
//! Ranges are walked top down and absent subtrees are skipped, so that removing a terabyte in which
//! a few pages are mapped costs a few steps. Tables that become empty leave the tree at once, but
//! only the caller may free them: the processor may still have entries cached, of tables as well as
//! of pages.

use super::{
    PAGE_SIZE,
    entry::{Entry, Rights},
    table::{ENTRIES, Table},
};
use crate::frames::{self, Frame, FrameList, Use};

/// Level of the table whose entries map pages; the root is [`TOP`].
const LEAF: u32 = 1;
const TOP: u32 = 4;

/// What left the tree. It may be freed once the TLB entry for its page is gone.
pub enum Removed {
    /// The page at this address, and what its entry held.
    Page(u64, Entry),
    /// An empty table.
    Table(Frame),
}

pub struct Tables {
    root: Table,
}

/// Bytes that one entry of a table of this level covers.
const fn span(level: u32) -> u64 {
    PAGE_SIZE << (9 * (level - 1))
}

fn index(address: u64, level: u32) -> usize {
    (address / span(level)) as usize % ENTRIES
}

impl Tables {
    pub fn new() -> Option<Self> {
        let root = Table::in_frame(frames::allocate(Use::Table)?);
        Some(Self { root })
    }

    /// An empty lower half below a root of its own, and the same upper half. `None` when memory is
    /// used up.
    pub fn sibling(&self) -> Option<Self> {
        let mut sibling = Self::new()?;
        for slot in ENTRIES / 2..ENTRIES {
            sibling.set_root_entry(slot, self.root_entry(slot));
        }
        Some(sibling)
    }

    /// Gives the root back, when no processor uses it. The lower half must be empty, and the upper
    /// half somebody else's.
    pub fn free(self) {
        assert!(
            (0..ENTRIES / 2).all(|slot| self.root.get(slot) == Entry::EMPTY),
            "tables left behind"
        );
        // SAFETY: `new` made the root of a frame, and nobody else has it.
        frames::free(unsafe { Frame::from_address(self.root.address()) });
    }

    /// Physical address of the root.
    pub fn root(&self) -> u64 {
        self.root.address()
    }

    /// Sets a whole slot of the root, for what all address spaces share.
    pub(super) fn set_root_entry(&mut self, slot: usize, entry: Entry) {
        self.root.set(slot, entry);
    }

    pub(super) fn root_entry(&self, slot: usize) -> Entry {
        self.root.get(slot)
    }

    /// The entry of the page that holds `address`, if it is used.
    pub fn find(&self, address: u64) -> Option<Entry> {
        let mut table = self.root;
        for level in (LEAF + 1..=TOP).rev() {
            table = Table::below(table.get(index(address, level)))?;
        }
        Some(table.get(index(address, LEAF))).filter(|e| e.is_used())
    }

    /// Sets the entry of a page that has none. Tables that it needs come out of `spare` first.
    /// `Err` when there is no memory for one.
    pub fn map(&mut self, address: u64, entry: Entry, spare: &mut FrameList) -> Result<(), ()> {
        let mut table = self.root;
        for level in (LEAF + 1..=TOP).rev() {
            let slot = index(address, level);
            table = match Table::below(table.get(slot)) {
                Some(below) => below,
                None => {
                    let frame = spare.pop().or_else(|| frames::allocate(Use::Table)).ok_or(())?;
                    let below = Table::in_frame(frame);
                    table.set(slot, Entry::table(below.address()));
                    below
                }
            };
        }
        let slot = index(address, LEAF);
        assert!(!table.get(slot).is_used(), "page {address:#x} is mapped already");
        table.set(slot, entry);
        Ok(())
    }

    /// Visits the entries that are used in the pages `first..=last`, upwards, and lets `change`
    /// replace each.
    pub fn update(&mut self, first: u64, last: u64, mut change: impl FnMut(u64, Entry) -> Entry) {
        visit(self.root, TOP, first, last, &mut |table, slot, page| {
            let old = table.get(slot);
            let new = change(page, old);
            if new != old {
                table.set(slot, new);
            }
        });
    }

    /// Visits the entries that are used in the pages `first..=last`, upwards.
    pub fn for_each(&self, first: u64, last: u64, mut see: impl FnMut(u64, Entry)) {
        visit(self.root, TOP, first, last, &mut |table, slot, page| see(page, table.get(slot)));
    }

    /// The first page in `first..=last` whose entry is used.
    pub fn first(&self, first: u64, last: u64) -> Option<(u64, Entry)> {
        first_below(self.root, TOP, first, last)
    }

    /// Takes everything out of the pages `first..=last`, upwards, tables after what they held.
    pub fn take(&mut self, first: u64, last: u64, mut removed: impl FnMut(Removed)) {
        take_below(self.root, TOP, first, last, &mut removed);
    }
}

/// The slots of a table of this level that `first..=last` touches, each with the part of the range
/// in it.
///
/// `first` and `last` are addresses below the same entry of the level above.
fn slots(level: u32, first: u64, last: u64) -> impl Iterator<Item = (usize, u64, u64)> {
    let span = span(level);
    (index(first, level)..=index(last, level)).map(move |slot| {
        let begin = (first & !(span * ENTRIES as u64 - 1)).wrapping_add(slot as u64 * span);
        (slot, begin.max(first), (begin + (span - 1)).min(last))
    })
}

fn visit(table: Table, level: u32, first: u64, last: u64, see: &mut impl FnMut(Table, usize, u64)) {
    for (slot, first, last) in slots(level, first, last) {
        if level == LEAF {
            if table.get(slot).is_used() {
                see(table, slot, first & !(PAGE_SIZE - 1));
            }
        } else if let Some(below) = Table::below(table.get(slot)) {
            visit(below, level - 1, first, last, see);
        }
    }
}

fn first_below(table: Table, level: u32, first: u64, last: u64) -> Option<(u64, Entry)> {
    slots(level, first, last).find_map(|(slot, first, last)| {
        let entry = table.get(slot);
        if level == LEAF {
            entry.is_used().then_some((first & !(PAGE_SIZE - 1), entry))
        } else {
            first_below(Table::below(entry)?, level - 1, first, last)
        }
    })
}

fn take_below(table: Table, level: u32, first: u64, last: u64, removed: &mut impl FnMut(Removed)) {
    for (slot, first, last) in slots(level, first, last) {
        let entry = table.get(slot);
        if level == LEAF {
            if entry.is_used() {
                table.set(slot, Entry::EMPTY);
                removed(Removed::Page(first & !(PAGE_SIZE - 1), entry));
            }
        } else if let Some(below) = Table::below(entry) {
            take_below(below, level - 1, first, last, removed);
            if below.is_empty() {
                table.set(slot, Entry::EMPTY);
                // SAFETY: `map` made the table of a frame; the entry just removed was its only
                // owner.
                removed(Removed::Table(unsafe { Frame::from_address(below.address()) }));
            }
        }
    }
}

impl Rights {
    /// Whether `self` allows something that `other` does not.
    pub fn exceeds(self, other: Self) -> bool {
        (self.load && !other.load) || (self.store && !other.store) || (self.fetch && !other.fetch)
    }
}
