//! fork(2)

use super::super::Mm;
use super::super::file::File;
use super::super::owner::Owner;
use super::super::vma::LinuxVma;
use crate::addr_space::counted;
use crate::sync::RawLock;
use crate::{AddrSpace, Errno, NodeAlloc, Reservation, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// The child's address space: [`Mm::fork`].
    ///
    /// Counts under the lock, takes nodes in hand without it, and counts again if there are more areas meanwhile; the eighth
    /// time it takes what is missing under the lock. Never cut: the lock is held for all areas. When this returns, the flush has ended. The child is nobody else's yet, so
    /// there is no second lock.
    ///
    /// # Errors
    /// As [`Mm::fork`]. What there was of a child is dropped after unlock.
    pub fn fork<O: Owner<F>>(&self, owner: &mut O) -> Result<Mm<F, A>, Errno> {
        let (alloc, first) = self.inspect(|mm| (mm.map.alloc().clone(), mm.map_count().saturating_add(1)));
        let (mut nodes, mut unborn) = (Reservation::new(alloc), None);
        counted(first, |count| {
            if let Err(error) = nodes.fill(count.nodes()) {
                return Ok(Err(error.into()));
            }
            self.update(0, owner, |mm, call| {
                let need = mm.map_count().saturating_add(1);
                if count.covers(need) {
                    Ok(mm.fork_by_way_of(&mut unborn, &mut nodes, call))
                } else {
                    Err(need)
                }
            })
        })
    }
}
