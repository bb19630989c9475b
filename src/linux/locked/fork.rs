//! fork(2)

use super::super::Mm;
use super::super::file::File;
use super::super::owner::Owner;
use super::super::vma::LinuxVma;
use crate::sync::RawLock;
use crate::{AddrSpace, Errno, NodeAlloc, Reservation, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// The child's address space: [`Mm::fork`].
    ///
    /// Counts under the lock, takes nodes in hand without it, and starts again if there are more areas meanwhile. Never
    /// cut: the lock is held for all areas. When this returns, the flush has ended. The child is nobody else's yet, so
    /// there is no second lock.
    ///
    /// # Errors
    /// As [`Mm::fork`]. What there was of a child is dropped after unlock.
    pub fn fork<O: Owner<F>>(&self, owner: &mut O) -> Result<Mm<F, A>, Errno> {
        let (alloc, mut need) = self.inspect(|mm| (mm.map.alloc().clone(), mm.map_count().saturating_add(1)));
        let (mut nodes, mut unborn) = (Reservation::new(alloc), None);
        loop {
            nodes.fill(need)?;
            let forked = self.update(0, owner, |mm, call| {
                need = mm.map_count().saturating_add(1);
                (need <= nodes.len()).then(|| mm.fork_by_way_of(&mut unborn, &mut nodes, call))
            });
            if let Some(forked) = forked {
                return forked;
            }
        }
    }
}
