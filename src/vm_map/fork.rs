//! Copying a map for another process.

use super::VmMap;
use crate::error::Error;
use crate::node::{NodeAlloc, Reservation};
use crate::ranges::Merge;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Copies the map, area by area, into a new one of the same space. `copy` says with which
    /// attributes, or `None` to leave an area out; the owner's data is [`fork`](VmaData::fork)ed. It
    /// may mark pages copy-on-write as it goes.
    ///
    /// Areas keep their boundaries. O(n log n), one node an area and one for the map, all taken before
    /// the first is copied. [`Error::OutOfMemory`] leaves nothing behind.
    pub fn fork(
        &self,
        alloc: A,
        mut copy: impl FnMut(&Vma<'_, V>) -> Option<Attrs>,
    ) -> Result<VmMap<V, A>, Error> {
        let space = self.space();
        let mut child = VmMap::new(space.start(), space.pages(), self.page, alloc.clone())?;
        let mut nodes = Reservation::new(alloc);
        nodes.fill(self.len())?;
        for vma in self.iter() {
            if let Some(attrs) = copy(&vma) {
                let (span, data) = (vma.range().span(), vma.data().fork());
                child.tree.place(span, attrs, data, Merge::Never, &mut nodes);
            }
        }
        Ok(child)
    }
}
