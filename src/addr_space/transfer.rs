//! Moving VMAs to another address space.

use super::{AddrSpace, NODES_PER_OPERATION};
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::split_merge::Merge;
use crate::sync::RawLock;
use crate::vm_map::VmMap;
use crate::vma::{VmaData, VmaNode};

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
    /// Those of [`VmMap::transfer`]; [`Error::SameSpace`](crate::Error::SameSpace) if both are the
    /// same space ([`VmMap::relocate`] moves within one);
    /// [`Error::Reentrant`](crate::Error::Reentrant).
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
