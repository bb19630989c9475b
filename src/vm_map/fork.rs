//! Copying a map for another process.

use super::VmMap;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::ranges::Merge;
use crate::update::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Copies the map, VMA by VMA, into a new one of the same space. `copy` says with which
    /// attributes, or `None` to leave a VMA out; the owner's data is [`fork`](VmaData::fork)ed. It
    /// may mark pages copy-on-write as it goes.
    ///
    /// VMAs keep their boundaries. Reserved ranges are left out. O(n log n), one node a VMA and one
    /// for the map, all taken before the first is copied. [`Error::OutOfMemory`] leaves nothing
    /// behind.
    pub fn fork(
        &self,
        alloc: A,
        copy: impl FnMut(&Vma<'_, V>) -> Option<Attrs>,
    ) -> Result<VmMap<V, A>, Error> {
        self.fork_with(&mut Preallocated::new(alloc), copy)
    }

    /// As [`fork_with`](Self::fork_with), for a map whose VMAs are looked up without its lock: page
    /// faults which have looked one up look again, as with [`invalidate`](Self::invalidate), and
    /// `flush_begin` follows what `copy` does to page tables.
    pub fn fork_live<H: Hooks<V>>(
        &mut self,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        update: &mut Update<'_, V, A, H>,
        mut copy: impl FnMut(&mut H, &Vma<'_, V>) -> Option<Attrs>,
    ) -> Result<VmMap<V, A>, Error> {
        update.check_alloc(&self.alloc)?;
        nodes.fill(self.len().saturating_add(1))?;
        self.invalidate_range(self.tree.space(), update, |map, update| {
            map.fork_with(nodes, |vma| copy(update.hooks, vma))
        })
    }

    /// As [`fork`](Self::fork) with nodes in hand, `len() + 1` of them if nothing is to be
    /// allocated here.
    pub fn fork_with(
        &self,
        nodes: &mut Preallocated<VmaNode<V>, A>,
        mut copy: impl FnMut(&Vma<'_, V>) -> Option<Attrs>,
    ) -> Result<VmMap<V, A>, Error> {
        nodes.fill(self.len().saturating_add(1))?;
        let mut child = VmMap::with_nodes(self.space(), nodes)?;
        // Whoever holds a reservation holds it in this map only.
        let kept = self.iter().filter(|vma| !vma.attrs().is_reserved());
        for vma in kept {
            if let Some(attrs) = copy(&vma) {
                let (span, data) = (vma.range().span(), vma.data().fork());
                child.tree.place(span, attrs, data, Merge::Never, nodes);
            }
        }
        Ok(child)
    }
}
