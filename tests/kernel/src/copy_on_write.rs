//! Copy-on-write. After a fork, the entries of parent and child map the same frames, read-only, and
//! each entry holds a reference to its frame. A process that writes gets a copy; the last one with
//! a reference keeps the frame.
//!
//! Hence one rule: an entry of private memory is given the right to store only while it holds the
//! only reference to its frame. A fault may check this before it gives the right, as long as the
//! VMA's token is still valid then: only a fork adds references that stay, and forks invalidate
//! tokens.

use crate::broken::Broken;
use crate::frames::{self, BLOCK_SIZE, Block, Frame};
use crate::pages::{NoFrames, Pages, Prepared};
use crate::paging::{Entry, Rights, block_of};
use crate::tlb::Gather;

/// Returns those of the VMA's rights that the entry may have now.
pub fn grantable(entry: Entry, rights: Rights) -> Rights {
    let own = entry.is_of_shared_mapping() || !is_shared(entry);
    Rights { store: rights.store && own, ..rights }
}

/// Returns true if others have references to the entry's frame, or to any frame of a large leaf.
fn is_shared(entry: Entry) -> bool {
    if entry.is_large() {
        Block::is_shared(entry.address())
    } else {
        frames::is_shared(entry.address())
    }
}

impl Pages {
    /// Maps the pages `first..=last`, guards included, in `child` as well, and takes the right to
    /// store away on both sides.
    pub fn inherit(
        &mut self,
        child: &mut Self,
        first: u64,
        last: u64,
        gather: &mut Gather,
    ) -> Result<(), NoFrames> {
        let mut given = Ok(());
        self.inherit_guards(child, first, last)?;
        self.split_ends(first, last);
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            let rights = Rights { store: false, ..entry.rights() };
            if given.is_ok() {
                given = if entry.is_large() {
                    child.map_block(page, Block::share(entry.address()), rights)
                } else {
                    child.map(page, Prepared::Own(frames::share(entry.address())), rights)
                };
            }
            if given.is_err() || Broken::ForkKeepsWrite.is_chosen() {
                return entry;
            }
            if entry.rights().store {
                gather.flush_later(page);
            }
            entry.with_rights(rights)
        });
        given
    }

    /// Maps `copy` at a page instead of the frame of `old`, the page's entry. A large leaf is split
    /// before.
    ///
    /// No processor may see one frame while another processor sees the other. So the page has no
    /// entry until every TLB has dropped the old one, and the caller holds the page-table lock
    /// meanwhile, so that no fault fills it.
    pub fn replace(&mut self, page: u64, old: Entry, copy: Frame, rights: Rights) {
        self.split(page);
        let mut gather = Gather::new(self.tables.root());
        self.tables.update(page, page, |_, _| Entry::EMPTY);
        gather.flush_later(page);
        gather.begin_flush();
        // SAFETY: `map` gave the frame to the entry, which is gone.
        gather.free_later(unsafe { Frame::from_address(old.address()) });
        gather.finish(&self.tables);
        let mapped = self.map(page, Prepared::Own(copy), rights);
        assert!(mapped.is_ok(), "page {page:#x} had a table before");
    }

    /// Gives the page more rights than its entry has, which needs no flush. `rights` are those of
    /// its VMA. So all of a large leaf gets them if none of its frames is shared; else it is split.
    pub fn allow(&mut self, page: u64, rights: Rights) {
        let (mut first, mut last) = (page, page);
        if let Some(leaf) = self.tables.large_leaf(page) {
            if is_shared(leaf) {
                self.split(page);
            } else {
                (first, last) = (block_of(page), block_of(page) + (BLOCK_SIZE - 1));
            }
        }
        self.tables.update(first, last, |_, entry| entry.with_rights(rights));
    }
}
