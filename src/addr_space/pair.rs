//! Changes of two address spaces at once.

use core::ptr;

use super::{AddrSpace, HasVmMap, NODES_PER_OPERATION};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::split_merge::Merge;
use crate::sync::RawLock;
use crate::update::Update;
use crate::vm_map::VmMap;
use crate::vma::{VmaData, VmaNode};

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `change` under the locks of both spaces, with `nodes` preallocated nodes for each as
    /// far as there is memory, then does the work that is owed for both. As
    /// [`update`](Self::update), for two.
    ///
    /// The lock of the space at the lower address is taken first and released last, so calls cannot
    /// deadlock with each other, however their arguments are ordered.
    ///
    /// # Errors
    ///
    /// [`Error::SameSpace`] if both are the same space; [`Error::Reentrant`].
    pub fn update_both<N: HasVmMap, K: RawLock, H, I, R>(
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
    ) -> Result<R, Error>
    where
        H: Hooks<M::Data> + ?Sized,
        I: Hooks<N::Data> + ?Sized,
    {
        let (here, there) = (ptr::from_ref(self).addr(), ptr::from_ref(other).addr());
        if here == there {
            return Err(Error::SameSpace);
        }
        self.check_reentry()?;
        other.check_reentry()?;
        let (mut update, mut other_update) =
            (self.new_update(hooks), other.new_update(other_hooks));
        let _ = update.preallocate(nodes);
        let _ = other_update.preallocate(nodes);
        // Locks go in the reverse of the order in which they came: an interrupt-saving one would
        // else restore the wrong state.
        let result = if here < there {
            let mut map = self.lock_for_change();
            let mut other_map = other.lock_for_change();
            let result = change(&mut map, &mut update, &mut other_map, &mut other_update);
            drop(other_map);
            drop(map);
            result
        } else {
            let mut other_map = other.lock_for_change();
            let mut map = self.lock_for_change();
            let result = change(&mut map, &mut update, &mut other_map, &mut other_update);
            drop(map);
            drop(other_map);
            result
        };
        // Both flushes end before anything of either is dropped: pages that were moved may show in
        // both.
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
    /// Moves VMAs into another space: [`VmMap::transfer`]. Takes both locks, in the order of
    /// [`update_both`](Self::update_both).
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::transfer`]; [`Error::SameSpace`] if both are the same space
    /// ([`VmMap::relocate`] moves within one); [`Error::Reentrant`].
    #[allow(clippy::too_many_arguments)] // A source and a target.
    pub fn transfer<B, K, H, I>(
        &self,
        from: u64,
        len: u64,
        target: &AddrSpace<VmMap<V, B>, K>,
        to: u64,
        merge: Merge,
        hooks: &mut H,
        target_hooks: &mut I,
    ) -> Result<(), H::Error>
    where
        B: NodeAlloc<VmaNode<V>> + Clone,
        K: RawLock,
        H: Hooks<V> + ?Sized,
        I: Hooks<V, Error = H::Error> + ?Sized,
    {
        self.check_reentry()?;
        // Under the locks, nodes are allocated only if there are more VMAs meanwhile.
        let count = self.inspect(|map| map.overlapping(from, len).count());
        let nodes = NODES_PER_OPERATION.max(count);
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
