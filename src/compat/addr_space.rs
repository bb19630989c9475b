//! [`Mappings`] behind a lock: the calls of an [`AddrSpace`] of mappings.

use super::checkpoint::Checkpoint;
use super::mappings::Mappings;
use super::origin::{Info, Origin};
use crate::addr_space::{AddrSpace, WORST_CASE, retry_with_nodes};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Hooks, NoHooks};
use crate::node::{NodeAlloc, Preallocated};
use crate::sync::RawLock;
use crate::vm_map::MapRequest;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// libmmap's calls. Each is one hold of the lock; its nodes are preallocated before.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::Mappings;
/// use kvma::{AddrSpace, Attrs, Heap, NoHooks, PageSize, Prot};
///
/// let space = AddrSpace::new(Mappings::new(0x10000, 0x100, PageSize::SIZE_4K, Heap)?);
/// let at = space.map_any(None, 0x4000, Attrs::new(Prot::RW), (), &mut NoHooks)?;
/// let saved = space.checkpoint()?;
/// space.unmap(at, 0x4000, &mut NoHooks)?;
/// space.restore(&saved, &mut NoHooks)?;
/// assert_eq!(space.query_page(at, |info| info.prot()), Some(Prot::RW));
/// # }
/// # Ok::<(), kvma::Error>(())
/// ```
impl<V, A, L> AddrSpace<Mappings<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<Origin<V>>> + Clone,
    L: RawLock,
{
    /// Maps what the request says, and returns the byte address. See [`Mappings::map`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::map`].
    pub fn map(
        &self,
        request: MapRequest<V>,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| space.map(request, update))
    }

    /// Maps `len` bytes at `hint`, or at the lowest free range. See [`Mappings::map_any`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::map_any`].
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

    /// Maps `len` bytes at `addr`, in place of what is there. See [`Mappings::map_at`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::map_at`].
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

    /// Unmaps `len` bytes from `addr`, and returns the number of pages removed. See
    /// [`Mappings::unmap`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::unmap`].
    pub fn unmap(
        &self,
        addr: u64,
        len: u64,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |space, update| space.unmap(addr, len, update))
    }

    /// Changes the protection of `len` bytes from `addr`. See [`Mappings::protect`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::protect`].
    pub fn protect(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        hooks: &mut impl Hooks<Origin<V>>,
    ) -> Result<(), Error> {
        self.update(WORST_CASE, hooks, |space, update| space.protect(addr, len, prot, update))
    }

    /// Lets `look` have what is known about the page that holds `addr`, and returns its answer;
    /// `None` if the page is not mapped. See [`Mappings::query_page`].
    ///
    /// `look` runs under the lock and must not call back into the space.
    pub fn query_page<R>(&self, addr: u64, look: impl FnOnce(Info<'_, V>) -> R) -> Option<R> {
        self.inspect(|space| space.query_page(addr).map(look))
    }

    /// Unmaps everything, and returns the number of pages removed. See [`Mappings::reset`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::reset`].
    pub fn reset(&self, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
        self.update(0, hooks, |space, update| space.reset(update))
    }

    /// Marks everything that is mapped now as original. See [`Mappings::mark_original`].
    pub fn mark_original(&self) {
        self.update(0, &mut NoHooks, |space, _| space.mark_original());
    }

    /// Unmaps all that was mapped since the space was last marked. See
    /// [`Mappings::unmap_non_original`].
    ///
    /// # Errors
    ///
    /// As for [`Mappings::unmap_non_original`].
    pub fn unmap_non_original(&self, hooks: &mut impl Hooks<Origin<V>>) -> Result<u64, Error> {
        self.update(0, hooks, |space, update| space.unmap_non_original(update))
    }

    /// Saves the present state. See [`Mappings::checkpoint`].
    ///
    /// Counts the VMAs under the lock, allocates nodes without it, and counts again if the space
    /// has grown meanwhile. The eighth time it allocates what is missing under the lock.
    ///
    /// # Errors
    ///
    /// As for [`Mappings::checkpoint`].
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

    /// Brings the state of `saved` back, in one hold of the lock, so that nobody sees it half done.
    /// See [`Mappings::restore`].
    ///
    /// Counts and allocates as [`checkpoint`](Self::checkpoint) does.
    ///
    /// # Errors
    ///
    /// As for [`Mappings::restore`].
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

    /// Copies the space for another process, whose pages may become copy-on-write. See
    /// [`Mappings::fork_live`].
    ///
    /// Counts and allocates as [`checkpoint`](Self::checkpoint) does. When it returns, the TLB
    /// flush has ended.
    ///
    /// # Errors
    ///
    /// As for [`Mappings::fork_live`].
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

/// Returns the number of nodes that a copy of the space takes: one for each VMA, one for the map.
fn nodes_for<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone>(
    space: &Mappings<V, A>,
) -> usize {
    space.map.len().saturating_add(1)
}
