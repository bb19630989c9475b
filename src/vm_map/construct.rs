//! Making a map.

use core::ops::RangeInclusive;

use super::{VmMap, claim};
use crate::error::Error;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::{PageSize, VmRange};
use crate::tree::Tree;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Creates an empty map over the bytes `space`, whole pages. Takes one node.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`] (the space would reach to
    /// 2^64 with pages of one byte), [`Error::OutOfMemory`].
    pub fn new(space: RangeInclusive<u64>, page: PageSize, alloc: A) -> Result<Self, Error> {
        let space = VmRange::from_bounds(*space.start(), *space.end(), page)?;
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
        let (page, alloc) = (space.page_size(), nodes.alloc().clone());
        let tree = Tree::new(space.page_range(), page, sentinel);
        Ok(Self { tree, page, alloc, claims: claim::Totals::default() })
    }
}
