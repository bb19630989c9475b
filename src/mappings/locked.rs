//! [`Mappings`] behind a lock.

use super::{Checkpoint, Info, Mappings, Origin};
use crate::addr_space::{AddrSpace, retry_with_nodes};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Hooks, NoHooks};
use crate::node::{NodeAlloc, Preallocated};
use crate::sync::RawLock;
use crate::vm_map::MapRequest;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// Nodes that any one operation on a range may need.
const WORST_CASE: usize = 3;

/// Every call is that of [`Mappings`], in one hold of the lock, its nodes taken in hand before.
impl<V, A, L> AddrSpace<Mappings<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<Origin<V>>> + Clone,
    L: RawLock,
{
    /// [`Mappings::map`].
    pub fn map(
        &self,
        request: MapRequest<V>,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| space.map(request, update))
    }

    /// [`Mappings::map_any`].
    pub fn map_any(
        &self,
        hint: Option<u64>,
        len: u64,
        attrs: Attrs,
        data: V,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| {
            space.map_any(hint, len, attrs, data, update)
        })
    }

    /// [`Mappings::map_at`].
    pub fn map_at(
        &self,
        addr: u64,
        len: u64,
        attrs: Attrs,
        data: V,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| space.map_at(addr, len, attrs, data, update))
    }

    /// [`Mappings::unmap`].
    pub fn unmap(
        &self,
        addr: u64,
        len: u64,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| space.unmap(addr, len, update))
    }

    /// [`Mappings::protect`].
    pub fn protect(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<(), Error> {
        self.update(WORST_CASE, hooks, |space, update| space.protect(addr, len, prot, update))
    }

    /// [`Mappings::query_page`]; `look` runs under the lock.
    pub fn query_page<R>(&self, addr: u64, look: impl FnOnce(Info<'_, V>) -> R) -> Option<R> {
        self.inspect(|space| space.query_page(addr).map(look))
    }

    /// [`Mappings::reset`].
    pub fn reset(&self, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
        self.update(0, hooks, |space, update| space.reset(update))
    }

    /// [`Mappings::mark_original`].
    pub fn mark_original(&self) {
        self.update(0, &mut NoHooks, |space, _| space.mark_original());
    }

    /// [`Mappings::unmap_non_original`].
    pub fn unmap_non_original(&self, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
        self.update(0, hooks, |space, update| space.unmap_non_original(update))
    }

    /// [`Mappings::checkpoint`]. Counts under the lock, allocates without it, and counts again if
    /// the space has grown meanwhile; the eighth time it allocates what is missing under the lock.
    pub fn checkpoint(&self) -> Result<Checkpoint<V, A>, Error> {
        let (alloc, first) = self.inspect(|space| (space.map.alloc().clone(), nodes_for(space)));
        let mut nodes = Preallocated::new(alloc);
        retry_with_nodes(first, |count| {
            if let Err(error) = nodes.fill(count.nodes()) {
                return Ok(Err(error));
            }
            self.inspect(|space| {
                let need = nodes_for(space);
                if count.covers(need) { Ok(space.checkpoint_with(&mut nodes)) } else { Err(need) }
            })
        })
    }

    /// [`Mappings::restore`], never cut: nobody sees it half done. Counts and allocates as
    /// [`checkpoint`](Self::checkpoint) does.
    pub fn restore(
        &self,
        saved: &Checkpoint<V, A>,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<(), Error> {
        retry_with_nodes(self.inspect(|space| space.restore_cost(saved)), |count| {
            self.update(count.nodes(), hooks, |space, update| {
                let need = space.restore_cost(saved);
                if count.covers(need) { Ok(space.restore(saved, update)) } else { Err(need) }
            })
        })
    }

    /// [`Mappings::fork_live`]: a copy for another process, whose pages may become copy-on-write.
    /// Counts and allocates as [`checkpoint`](Self::checkpoint) does. When this returns, the flush
    /// has ended.
    pub fn fork<H: Hooks<Origin<V>>>(
        &self,
        hooks: &mut H,
        mut copy: impl FnMut(&mut H, &Vma<'_, Origin<V>>) -> Option<Attrs>,
    ) -> Result<Mappings<V, A>, Error> {
        let (alloc, first) = self.inspect(|space| (space.map.alloc().clone(), nodes_for(space)));
        let mut nodes = Preallocated::new(alloc);
        retry_with_nodes(first, |count| {
            if let Err(error) = nodes.fill(count.nodes()) {
                return Ok(Err(error));
            }
            self.update(0, hooks, |space, update| {
                let need = nodes_for(space);
                if count.covers(need) {
                    Ok(space.fork_live(&mut nodes, update, &mut copy))
                } else {
                    Err(need)
                }
            })
        })
    }
}

/// A node for each region and one for the map.
fn nodes_for<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone>(
    space: &Mappings<V, A>,
) -> usize {
    space.map.len().saturating_add(1)
}
