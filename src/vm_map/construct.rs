//! Making a map.

use core::ops::RangeInclusive;

use super::{VmMap, claim};
use crate::error::Error;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::{PageSize, VmRange};
use crate::tree::Tree;
#[cfg(feature = "linux")]
use crate::vma::GuardGaps;
use crate::vma::{VmaContext, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Creates an empty map over the bytes `space`, whole pages. Takes one node.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`] (the space would reach to
    /// 2^64 with pages of one byte), [`Error::OutOfMemory`].
    pub fn new(space: RangeInclusive<u64>, page_size: PageSize, alloc: A) -> Result<Self, Error> {
        let space = VmRange::from_bounds(*space.start(), *space.end(), page_size)?;
        let mut nodes = Preallocated::new(alloc);
        nodes.fill(1)?;
        Self::with_nodes(space, &mut nodes)
    }

    /// Creates an empty map with a preallocated node. Later nodes come from the same allocator.
    pub(super) fn with_nodes(
        space: VmRange,
        nodes: &mut Preallocated<VmaNode<V>, A>,
    ) -> Result<Self, Error> {
        let sentinel = nodes.take().ok_or(Error::OutOfMemory)?;
        let (page_size, alloc) = (space.page_size(), nodes.alloc().clone());
        let tree = Tree::new(space.page_range(), VmaContext::new(page_size), sentinel);
        Ok(Self { tree, page_size, alloc, claims: claim::Totals::default() })
    }

    /// Says how many pages below some VMAs searches for a gap leave free. O(1) for an empty map,
    /// else O(n log n).
    #[cfg(feature = "linux")]
    pub(crate) fn set_guard_gaps(&mut self, guard_gaps: GuardGaps) {
        self.tree.set_context(VmaContext { page_size: self.page_size, guard_gaps });
    }

    /// Returns an address below which no VMA begins that keeps a guard gap. O(1).
    #[cfg(feature = "linux")]
    pub(crate) fn lowest_guarded(&self) -> u64 {
        self.page_size.addr(self.tree.lowest_guarded())
    }
}
