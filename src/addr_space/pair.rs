//! Two address spaces at once.

use super::{AddrSpace, HasVmMap, WORST_CASE, retry_with_nodes};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::ranges::Merge;
use crate::sync::RawLock;
use crate::update::Update;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};
use core::ptr;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `change` under the locks of both spaces, each with `nodes` nodes in hand as far as
    /// there is memory, then does what is owed for both. As [`update`](Self::update), for two.
    ///
    /// The lock of the space at the lower address is taken first, so calls cannot deadlock with
    /// each other, however their arguments are ordered. [`Error::Busy`] if both are the same space.
    pub fn update_both<N: HasVmMap, K: RawLock, H: Hooks<M::Data>, I: Hooks<N::Data>, R>(
        &self,
        other: &AddrSpace<N, K>,
        nodes: usize,
        hooks: &mut H,
        other_hooks: &mut I,
        change: impl FnOnce(
            &mut M,
            &mut Update<'_, M::Data, M::Alloc, H>,
            &mut N,
            &mut Update<'_, N::Data, N::Alloc, I>,
        ) -> R,
    ) -> Result<R, Error> {
        let (here, there) = (ptr::from_ref(self).addr(), ptr::from_ref(other).addr());
        if here == there {
            return Err(Error::Busy);
        }
        let (mut update, mut other_update) = (self.owed(hooks), other.owed(other_hooks));
        let _ = update.reserve(nodes);
        let _ = other_update.reserve(nodes);
        let result = {
            let (mut map, mut other_map);
            if here < there {
                map = self.begin();
                other_map = other.begin();
            } else {
                other_map = other.begin();
                map = self.begin();
            }
            change(&mut map, &mut update, &mut other_map, &mut other_update)
        };
        // Both flushes end before anything of either is dropped: what was moved may show in both.
        update.end_flush();
        other_update.end_flush();
        Ok(result)
    }
}

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// A copy of the map for another process: [`VmMap::fork_live`]. `copy` runs under the lock; it
    /// marks an VMA's pages copy-on-write and says with which attributes the VMA is to be copied,
    /// or `None`.
    ///
    /// Counts under the lock, takes nodes in hand without it, and counts again if there are more
    /// VMAs meanwhile; the eighth time it takes what is missing under the lock. Never cut: the lock
    /// is held for all VMAs. When this returns, the flush has ended. The child is nobody else's
    /// yet, so there is no second lock.
    pub fn fork<H: Hooks<V>>(
        &self,
        alloc: A,
        hooks: &mut H,
        mut copy: impl FnMut(&mut H, &Vma<'_, V>) -> Option<Attrs>,
    ) -> Result<VmMap<V, A>, Error> {
        let mut nodes = Preallocated::new(alloc);
        retry_with_nodes(self.inspect(|map| map.len()).saturating_add(1), |count| {
            if let Err(error) = nodes.fill(count.nodes()) {
                return Ok(Err(error));
            }
            self.update(0, hooks, |map, update| {
                let need = map.len().saturating_add(1);
                if count.covers(need) {
                    Ok(map.fork_live(&mut nodes, update, &mut copy))
                } else {
                    Err(need)
                }
            })
        })
    }

    /// Moves VMAs into another space: [`VmMap::transfer`]. Takes both locks, in the order of
    /// [`update_both`](Self::update_both). [`Error::Busy`] if both are the same space:
    /// [`VmMap::relocate`] moves within one.
    #[allow(clippy::too_many_arguments)]
    pub fn transfer<B: NodeAlloc<VmaNode<V>> + Clone, K: RawLock>(
        &self,
        from: u64,
        len: u64,
        target: &AddrSpace<VmMap<V, B>, K>,
        to: u64,
        merge: Merge,
        hooks: &mut impl Hooks<V>,
        target_hooks: &mut impl Hooks<V>,
    ) -> Result<(), Error> {
        // Under the locks, nodes are allocated only if the VMAs have become more meanwhile.
        let nodes = WORST_CASE.max(self.inspect(|map| map.overlapping(from, len).count()));
        self.update_both(
            target,
            nodes,
            hooks,
            target_hooks,
            |map, update, target, target_update| {
                map.transfer(from, len, update, target, to, merge, target_update)
            },
        )?
    }
}
