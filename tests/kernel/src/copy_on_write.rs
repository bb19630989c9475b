//! Private pages after a fork: the parent's entries and the child's hold the same frames, none of
//! them for writing, and each entry is one of the frame's owners. Who writes gets a copy, and who
//! is left alone with a frame keeps it.
//!
//! So there is one rule: an entry allows stores only if it is given that right while it is its
//! frame's only owner. It may be given it later than that was seen, if the VMA's token is still
//! valid: only a fork adds an owner for good, and forks make tokens invalid.

use crate::{
    broken::Broken,
    frames::{self, Frame},
    pages::{NoFrames, Pages, Prepared},
    paging::{Entry, Rights},
    tlb::Gather,
};

/// Of the rights that the VMA gives, those that the entry may have now.
pub fn grantable(entry: Entry, rights: Rights) -> Rights {
    Rights { store: rights.store && !frames::is_shared(entry.address()), ..rights }
}

impl Pages {
    /// Gives `child` what lies in `first..=last`, guards included, and takes the right to store
    /// away on both sides.
    pub fn inherit(
        &mut self,
        child: &mut Self,
        first: u64,
        last: u64,
        owed: &mut Gather,
    ) -> Result<(), NoFrames> {
        let mut given = Ok(());
        self.inherit_guards(child, first, last)?;
        self.tables.update(first, last, |page, entry| {
            if entry.is_guard() {
                return entry;
            }
            let rights = Rights { store: false, ..entry.rights() };
            if given.is_ok() {
                given = child.map(page, Prepared::Own(frames::share(entry.address())), rights);
            }
            if given.is_err() || Broken::ForkKeepsWrite.is_chosen() {
                return entry;
            }
            if entry.rights().store {
                owed.flush_later(page);
            }
            entry.with_rights(rights)
        });
        given
    }

    /// Puts `copy` into the place of the frame that `old`, the page's entry, holds.
    ///
    /// No processor may see the one frame while another sees the other. So the page is without an
    /// entry until every TLB has forgotten the old one, and the page-table lock is held meanwhile,
    /// lest a fault fills it.
    pub fn replace(&mut self, page: u64, old: Entry, copy: Frame, rights: Rights) {
        let mut owed = Gather::new();
        self.tables.update(page, page, |_, _| Entry::EMPTY);
        owed.flush_later(page);
        owed.begin_flush();
        // SAFETY: `map` left the frame to the entry, which is gone.
        owed.free_later(unsafe { Frame::from_address(old.address()) });
        owed.finish();
        let mapped = self.map(page, Prepared::Own(copy), rights);
        assert!(mapped.is_ok(), "page {page:#x} had a table before");
    }

    /// Gives the page other rights than its entry has, without a flush: more of them.
    pub fn allow(&mut self, page: u64, rights: Rights) {
        self.tables.update(page, page, |_, entry| entry.with_rights(rights));
    }
}
