//! Large leaves: entries of 2 MiB in the tables above the last level.
//!
//! Walks that look at pages see a large leaf as the pages that it would be split into. Walks that
//! change something see the leaf itself, and pass one over that their range cuts: it is to be
//! [split](Tables::begin_split) first.

use super::table::{ENTRIES, Table};
use super::tables::{LEAF, TOP, index, visit};
use super::{Entry, Tables};
use crate::frames::{BLOCK_SIZE, Frame, FrameList};

/// The level of the tables that have large leaves.
const LARGE: u32 = LEAF + 1;

/// Returns the first byte of the 2 MiB that hold an address.
pub fn block_of(address: u64) -> u64 {
    address & !(BLOCK_SIZE - 1)
}

impl Tables {
    /// Returns the table with the entry of an address's 2 MiB, and the entry. `None` without a
    /// table.
    fn entry_of_block(&self, address: u64) -> Option<(Table, Entry)> {
        let mut table = self.root;
        for level in (LARGE + 1..=TOP).rev() {
            table = Table::below(table.get(index(address, level)))?;
        }
        Some((table, table.get(index(address, LARGE))))
    }

    /// Returns the large leaf that holds `address`, if there is one.
    pub fn large_leaf(&self, address: u64) -> Option<Entry> {
        Some(self.entry_of_block(address)?.1).filter(|entry| entry.is_large())
    }

    /// Returns true if a large leaf could be mapped at the 2 MiB that hold `address`: there is
    /// neither a page nor a table.
    pub fn takes_large_leaf(&self, address: u64) -> bool {
        self.entry_of_block(address).is_none_or(|(_, entry)| entry == Entry::EMPTY)
    }

    /// Returns the number of spare tables, of which each large leaf has one.
    pub fn spare_tables(&self) -> usize {
        self.spares.len()
    }

    /// Visits the large leaves that lie in `first..=last`, in ascending order.
    pub fn for_each_large(&self, first: u64, last: u64, mut see: impl FnMut(u64, Entry)) {
        visit(self.root, TOP, first, last, &mut |table, slot, page| {
            let entry = table.get(slot);
            if entry.is_large() {
                see(page, entry);
            }
        });
    }

    /// Sets the entry of 2 MiB where nothing is mapped to a large leaf. `spare` is the table into
    /// which it may be split. Tables that are missing are made from `preallocated` first. `Err`
    /// without memory for one.
    pub fn map_large(
        &mut self,
        block: u64,
        entry: Entry,
        spare: Frame,
        preallocated: &mut FrameList,
    ) -> Result<(), Frame> {
        let Ok(table) = self.table(block, LARGE, preallocated) else { return Err(spare) };
        let slot = index(block, LARGE);
        assert!(table.get(slot) == Entry::EMPTY, "block {block:#x} is mapped already");
        self.spares.push(spare);
        table.set(slot, entry);
        Ok(())
    }

    /// Begins to replace the large leaf that holds `address` by a table of the pages that it
    /// consists of: takes the leaf out, and returns it. `None` if there is none.
    ///
    /// Every processor has to forget the leaf before [`end_split`](Self::end_split): none may have
    /// entries of both sizes for one address. Arm demands this ("break before make"), other
    /// processors have errata about it.
    pub fn begin_split(&mut self, address: u64) -> Option<Entry> {
        let (above, leaf) = self.entry_of_block(address).filter(|(_, e)| e.is_large())?;
        above.set(index(address, LARGE), Entry::EMPTY);
        Some(leaf)
    }

    /// Puts the pages of a large leaf in its place. Needs no memory.
    pub fn end_split(&mut self, address: u64, leaf: Entry) {
        let Some((above, Entry::EMPTY)) = self.entry_of_block(address) else {
            panic!("the place of the leaf at {address:#x} is taken")
        };
        let table = Table::in_frame(self.spares.pop());
        (0..ENTRIES).for_each(|page| table.set(page, leaf.page_of_large(page)));
        above.set(index(address, LARGE), Entry::table(table.address()));
    }
}
