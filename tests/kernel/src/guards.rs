//! Guards: page-table entries that refuse, where the VMA would allow. They stay until they are
//! removed or their VMA goes, move with it, and are inherited, also with memory that is shared.

use crate::{
    frames::FrameList,
    pages::{NoFrames, Pages, collect},
    paging::{Entry, PAGE_SIZE, Removed},
    tlb::Gather,
};

impl Pages {
    /// Makes guards of the pages `first..=last`. What they held goes.
    pub fn guard(&mut self, first: u64, last: u64, owed: &mut Gather) -> Result<(), NoFrames> {
        self.unmap(first, last, owed);
        for page in (first..=last).step_by(PAGE_SIZE as usize) {
            self.tables.map(page, Entry::GUARD, &mut FrameList::new()).map_err(|()| NoFrames)?;
        }
        Ok(())
    }

    /// Takes guards away. Tables stay, since no flush follows: processors may remember where they
    /// are.
    pub fn unguard(&mut self, first: u64, last: u64) {
        self.tables.update(
            first,
            last,
            |_, entry| if entry.is_guard() { Entry::EMPTY } else { entry },
        );
    }

    /// Takes away what the pages hold. Guards stay.
    pub fn discard(&mut self, first: u64, last: u64, owed: &mut Gather) {
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            collect(Removed::Page(page, entry), owed);
            Entry::EMPTY
        });
    }

    /// Gives `child` the guards in `first..=last`.
    pub fn inherit_guards(&self, child: &mut Self, first: u64, last: u64) -> Result<(), NoFrames> {
        let mut given = Ok(());
        self.tables.for_each(first, last, |page, entry| {
            if entry.is_guard() && given.is_ok() {
                given = child.tables.map(page, entry, &mut FrameList::new()).map_err(|()| NoFrames);
            }
        });
        given
    }
}
