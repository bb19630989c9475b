//! Forking behind a lock, and other changes that need a node for each VMA.

use super::AddrSpace;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::sync::RawLock;
use crate::vm_map::VmMap;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// Copies the map for another process: [`VmMap::fork_live`]. `copy` runs under the lock; it
    /// marks a VMA's pages copy-on-write and returns the attributes and the data of the child's
    /// VMA, or `None`.
    ///
    /// Counts under the lock, preallocates nodes without it, and counts again if there are more
    /// VMAs meanwhile; the eighth time it allocates the missing ones under the lock. The lock is
    /// held for all VMAs at once. When this returns, the flush has ended. The child is nobody
    /// else's yet, so there is no second lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::fork_live`]; the child's VMAs are dropped after unlock.
    /// [`Error::Reentrant`].
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // fork(2). The closure is where the pages of a VMA become read-only in both page tables.
    /// let mut shared = 0;
    /// let child = space.fork(&nodes, &mut NoHooks, |_hooks, vma| {
    ///     shared += vma.page_count();
    ///     Ok(Some((vma.attrs(), *vma.data())))
    /// })?;
    /// let child = AddrSpace::new(child);
    /// assert_eq!((shared, child.len()), (4, 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fork<H: Hooks<V> + ?Sized>(
        &self,
        alloc: A,
        hooks: &mut H,
        mut copy: impl FnMut(&mut H, &Vma<'_, V>) -> Result<Option<(Attrs, V)>, H::Error>,
    ) -> Result<VmMap<V, A>, H::Error> {
        self.check_reentry()?;
        let mut nodes = Preallocated::new(alloc);
        let mut child = None;
        let first = self.inspect(VmMap::len).saturating_add(1);
        retry_with_nodes(first, |budget| {
            if let Err(error) = nodes.fill(budget.nodes()) {
                return Ok(Err(error.into()));
            }
            self.update(0, hooks, |map, update| {
                let need = map.len().saturating_add(1);
                if budget.is_enough_for(need) {
                    Ok(map.fork_live_into(&mut child, &mut nodes, update, &mut copy))
                } else {
                    Err(need)
                }
            })
        })?;
        Ok(child.ok_or(Error::OutOfMemory)?)
    }
}

/// The number of attempts, of which the last one allocates nodes under the lock. Else a fork might
/// never end beside threads that keep mapping.
const MAX_ATTEMPTS: usize = 8;

/// The nodes that are preallocated for an attempt.
#[derive(Clone, Copy)]
pub(crate) struct NodeBudget {
    nodes: usize,
    attempts_left: usize,
}

impl NodeBudget {
    /// Returns how many nodes to preallocate.
    pub(crate) fn nodes(self) -> usize {
        self.nodes
    }

    /// Returns `true` if the attempt is to go on where `need` nodes turn out to be needed: that
    /// many are preallocated, or this is the last attempt, and the change allocates the missing
    /// ones itself.
    pub(crate) fn is_enough_for(self, need: usize) -> bool {
        need <= self.nodes || self.attempts_left == 0
    }
}

/// Runs `attempt` with a budget of `first` nodes, then with as many as it says to have needed under
/// the lock.
pub(crate) fn retry_with_nodes<R>(
    first: usize,
    mut attempt: impl FnMut(NodeBudget) -> Result<R, usize>,
) -> R {
    let mut budget = NodeBudget { nodes: first, attempts_left: MAX_ATTEMPTS };
    loop {
        budget.attempts_left = budget.attempts_left.saturating_sub(1);
        match attempt(budget) {
            Ok(result) => return result,
            Err(need) => budget.nodes = need,
        }
    }
}
