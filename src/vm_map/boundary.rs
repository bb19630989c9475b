//! Splitting and merging VMAs by hand.

use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::PageRange;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Splits the VMA that holds `addr` there. Nothing happens where a VMA begins, or in a gap.
    /// Operations that later change one of the two merge them again if they have become equal;
    /// others leave them. O(log n), one node, no hooks.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`], [`Error::SplitRefused`], [`Error::OutOfMemory`],
    /// [`Error::ForeignNodes`].
    pub fn split_at<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| Ok(map.split_in(addr, update)?))
    }

    /// Merges the two VMAs that meet at `addr`. O(log n), needs no node, no hooks.
    ///
    /// # Errors
    ///
    /// [`Error::NotAdjacent`], [`Error::AttributesDiffer`], [`Error::BackingDiffers`],
    /// [`Error::Unaligned`], [`Error::ForeignNodes`].
    pub fn merge_at<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| Ok(map.merge_in(addr, update)?))
    }

    /// Checks whether [`merge_at`](Self::merge_at) would merge. O(log n).
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn can_merge_at(&self, addr: u64) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        let page = self.page.page(addr);
        self.check_no_claim_at(page)?;
        self.tree.can_merge_at(page)
    }

    /// Checks that no claim begins or ends at `page`: it is no VMA that could meet another one.
    fn check_no_claim_at(&self, page: u64) -> Result<(), Error> {
        let sides = PageRange::new(page.saturating_sub(1), page.saturating_add(1));
        if self.has_claim(sides) { Err(Error::NotAdjacent) } else { Ok(()) }
    }

    pub(crate) fn split_in<H: Hooks<V> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        let page = self.page.page(addr);
        let Some(entry) = self.tree.find_from(page) else { return Ok(()) };
        if self.split_cost(entry, page)? == 0 {
            return Ok(());
        }
        update.check_alloc(&self.alloc)?;
        update.preallocate(1)?;
        self.tree.split_at(page, &mut update.owed.nodes.free);
        Ok(())
    }

    pub(crate) fn merge_in<H: Hooks<V> + ?Sized>(
        &mut self,
        addr: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        update.check_alloc(&self.alloc)?;
        let page = self.page.page(addr);
        self.check_no_claim_at(page)?;
        self.tree.merge_at(page, &mut update.owed.nodes)
    }

    /// Splits the VMA that holds `page` there, for which there is a node; a claim is left whole.
    pub(super) fn split_unless_claim(
        &mut self,
        page: u64,
        nodes: &mut Preallocated<VmaNode<V>, A>,
    ) {
        if self.find_page(page).is_some() {
            self.tree.split_at(page, nodes);
        }
    }
}
