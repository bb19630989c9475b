//! fork(2)

use super::super::Mm;
use super::super::file::File;
use super::super::kernel::Kernel;
use super::super::vma::LinuxVma;
use crate::addr_space::retry_with_nodes;
use crate::sync::RawLock;
use crate::{AddrSpace, Errno, NodeAlloc, Preallocated, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// The child's address space: [`Mm::fork`].
    ///
    /// Counts under the lock, takes nodes in hand without it, and counts again if there are more
    /// VMAs meanwhile; the eighth time it takes what is missing under the lock. Never cut: the lock
    /// is held for all VMAs. When this returns, the flush has ended. The child is nobody else's
    /// yet, so there is no second lock.
    ///
    /// # Errors
    /// As [`Mm::fork`]. What there was of a child is dropped after unlock.
    pub fn fork<O: Kernel<F>>(&self, owner: &mut O) -> Result<Mm<F, A>, Errno> {
        let (alloc, first) =
            self.inspect(|mm| (mm.map.alloc().clone(), mm.map_count().saturating_add(1)));
        let (mut nodes, mut partial_child) = (Preallocated::new(alloc), None);
        retry_with_nodes(first, |count| {
            if let Err(error) = nodes.fill(count.nodes()) {
                return Ok(Err(error.into()));
            }
            self.update(0, owner, |mm, call| {
                let need = mm.map_count().saturating_add(1);
                if count.covers(need) {
                    Ok(mm.fork_into(&mut partial_child, &mut nodes, call))
                } else {
                    Err(need)
                }
            })
        })
    }
}
