//! Guards: page-table entries that refuse every access, although the VMA allows it. They stay until
//! they are removed or their VMA is unmapped, move with it, and are inherited by children, even in
//! shared memory.

use crate::frames::FrameList;
use crate::pages::{NoFrames, Pages, collect};
use crate::paging::{Entry, PAGE_SIZE, Removed};
use crate::tlb::Gather;

impl Pages {
    /// Makes the pages `first..=last` guards. Their contents are lost.
    pub fn guard(&mut self, first: u64, last: u64, gather: &mut Gather) -> Result<(), NoFrames> {
        self.unmap(first, last, gather);
        for page in (first..=last).step_by(PAGE_SIZE as usize) {
            self.tables.map(page, Entry::GUARD, &mut FrameList::new()).map_err(|()| NoFrames)?;
        }
        Ok(())
    }

    /// Removes guards. Tables stay, because no flush follows and processors may have cached them.
    pub fn unguard(&mut self, first: u64, last: u64) {
        self.tables.update(
            first,
            last,
            |_, entry| if entry.is_guard() { Entry::EMPTY } else { entry },
        );
    }

    /// Drops the contents of pages. Guards stay.
    pub fn discard(&mut self, first: u64, last: u64, gather: &mut Gather) {
        self.split_ends(first, last);
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            collect(Removed::Page(page, entry), gather);
            Entry::EMPTY
        });
    }

    /// Makes the guards in `first..=last` guards of `child` as well.
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
