//! Splitting and joining VMAs by hand.

use super::VmMap;
use crate::error::Error;
use crate::node::{NodeAlloc, Preallocated};
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Cuts the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a
    /// hole. Operations that later change one of the two join them again if they have become equal;
    /// others leave them. O(log n), one node, no hooks.
    ///
    /// [`Error::Unaligned`], [`Error::SplitRefused`], [`Error::OutOfMemory`].
    pub fn split_at(&mut self, addr: u64) -> Result<(), Error> {
        self.split_with(addr, &mut Preallocated::new(self.alloc.clone()))
    }

    /// The same with nodes in hand, which are of this map's allocator.
    pub(crate) fn split_with(
        &mut self,
        addr: u64,
        nodes: &mut Preallocated<VmaNode<V>, A>,
    ) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        let page = self.page.page(addr);
        let Some(vma) = self.tree.find(page) else { return Ok(()) };
        if self.cost_of_cut(vma, page)? == 0 {
            return Ok(());
        }
        nodes.fill(1)?;
        self.tree.cut(page, nodes);
        Ok(())
    }

    /// Joins the two VMAs that meet at `addr`, or says why not: [`Error::NotAdjacent`],
    /// [`Error::AttributesDiffer`], [`Error::BackingDiffers`], [`Error::Unaligned`]. O(log n),
    /// needs no node, no hooks.
    pub fn merge_at(&mut self, addr: u64) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        self.tree.join_at(self.page.page(addr), &mut Preallocated::new(self.alloc.clone()))
    }

    /// Whether [`merge_at`](Self::merge_at) would join, and else why not. O(log n).
    pub fn may_merge_at(&self, addr: u64) -> Result<(), Error> {
        if !self.page.is_aligned(addr) {
            return Err(Error::Unaligned);
        }
        self.tree.joins_at(self.page.page(addr))
    }
}
