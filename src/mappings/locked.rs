//! [`Mappings`] behind a lock.

use super::{Checkpoint, Info, Mappings, Origin};
use crate::addr_space::AddrSpace;
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Hooks, NoHooks};
use crate::node::{NodeAlloc, Reservation};
use crate::sync::RawLock;
use crate::vm_map::Request;
use crate::vma::{Attrs, VmaData, VmaNode};

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
    pub fn map(&self, request: Request<V>, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
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
        self.update(WORST_CASE, hooks, |space, update| space.map_any(hint, len, attrs, data, update))
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
    pub fn unmap(&self, addr: u64, len: u64, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
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

    /// [`Mappings::checkpoint`]. Counts under the lock, allocates without it, and starts again if the
    /// space has grown meanwhile.
    pub fn checkpoint(&self) -> Result<Checkpoint<V, A>, Error> {
        let (alloc, mut need) = self.inspect(|space| (space.map.alloc().clone(), space.map.len() + 1));
        let mut nodes = Reservation::new(alloc);
        loop {
            nodes.fill(need)?;
            let saved = self.inspect(|space| {
                need = space.map.len() + 1;
                (need <= nodes.len()).then(|| space.checkpoint_with(&mut nodes))
            });
            if let Some(saved) = saved {
                return saved;
            }
        }
    }

    /// [`Mappings::restore`], never cut: nobody sees it half done. Counts under the lock, allocates
    /// without it, and starts again if it needs more meanwhile.
    pub fn restore(&self, saved: &Checkpoint<V, A>, hooks: &mut impl Hooks<Origin<V>>) -> Result<(), Error> {
        let mut need = self.inspect(|space| space.restore_cost(saved));
        loop {
            let in_hand = need;
            let done = self.update(in_hand, hooks, |space, update| {
                need = space.restore_cost(saved);
                (need <= in_hand).then(|| space.restore(saved, update))
            });
            if let Some(done) = done {
                return done;
            }
        }
    }
}
