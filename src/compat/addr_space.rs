//! [`Mappings`] behind a lock: the calls of an [`AddrSpace`] of mappings.

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;

use super::checkpoint::{Checkpoint, with_origin};
use super::mappings::Mappings;
use super::origin::{Info, Origin};
use crate::addr_space::{AddrSpace, NODES_PER_OPERATION, retry_with_nodes};
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::Hooks;
use crate::node::{NodeAlloc, Preallocated};
use crate::placement::MapRequest;
use crate::sync::RawLock;
use crate::vm_map::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

/// libmmap's calls. Each preallocates nodes, takes the lock, changes the space, releases the lock,
/// and does the work that is owed. They must not be called from hooks or where the lock is held:
/// they hang, or if the lock knows its holder return [`Error::Reentrant`] (and panic in debug
/// builds). Costs and errors are those of the call of [`Mappings`] that has the same name.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::compat::Mappings;
/// use kvma::{AddrSpace, Attrs, Heap, NoHooks, PageSize, Prot};
///
/// let space = AddrSpace::new(Mappings::new(0x10000..=0x10_ffff, PageSize::SIZE_4K, Heap)?);
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
    fn once<H: Hooks<Origin<V>> + ?Sized, R>(
        &self,
        nodes: usize,
        hooks: &mut H,
        operation: impl FnOnce(
            &mut Mappings<V, A>,
            &mut Update<'_, Origin<V>, A, H>,
        ) -> Result<R, H::Error>,
    ) -> Result<R, H::Error> {
        self.check_reentry()?;
        self.update(nodes, hooks, operation)
    }

    /// Maps what the request says, and returns the byte address. See [`Mappings::map`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::map`], and [`Error::Reentrant`].
    pub fn map<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        request: MapRequest<V>,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(NODES_PER_OPERATION, hooks, |space, update| {
            self.aim_at(space, request.placement());
            space.map(request, update)
        })
    }

    /// Maps `len` bytes at `hint`, or wherever they fit. See [`Mappings::map_any`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::map_any`], and [`Error::Reentrant`].
    pub fn map_any<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        hint: Option<u64>,
        len: u64,
        attrs: Attrs,
        data: V,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(NODES_PER_OPERATION, hooks, |space, update| {
            if let Some(hint) = hint {
                self.aim(space, hint);
            }
            space.map_any(hint, len, attrs, data, update)
        })
    }

    /// Maps `len` bytes at `addr`, in place of what is there. See [`Mappings::map_at`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::map_at`], and [`Error::Reentrant`].
    pub fn map_at<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        attrs: Attrs,
        data: V,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(NODES_PER_OPERATION, hooks, |space, update| {
            self.aim(space, addr);
            space.map_at(addr, len, attrs, data, update)
        })
    }

    /// Unmaps `len` bytes from `addr`, and returns the bytes removed. See
    /// [`Mappings::unmap`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::unmap`], and [`Error::Reentrant`].
    pub fn unmap<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(NODES_PER_OPERATION, hooks, |space, update| {
            self.aim(space, addr);
            let bytes = space.unmap(addr, len, update)?;
            self.note_gap(space, addr);
            Ok(bytes)
        })
    }

    /// Changes the protection of `len` bytes from `addr`. See [`Mappings::protect`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::protect`], and [`Error::Reentrant`].
    pub fn protect<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.once(NODES_PER_OPERATION, hooks, |space, update| {
            self.aim(space, addr);
            space.protect(addr, len, prot, update)
        })
    }

    /// Lets `look` have what is known about the page that holds `addr`, and returns its answer;
    /// `None` if the page is not mapped. See [`Mappings::query_page`].
    ///
    /// `look` runs under the lock and must not call back into the space.
    pub fn query_page<R>(&self, addr: u64, look: impl FnOnce(Info<'_, V>) -> R) -> Option<R> {
        self.inspect(|space| space.query_page(addr).map(look))
    }

    /// Unmaps everything, and returns the bytes removed. See [`Mappings::reset`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::reset`], and [`Error::Reentrant`].
    pub fn reset<H: Hooks<Origin<V>> + ?Sized>(&self, hooks: &mut H) -> Result<u64, H::Error> {
        self.once(0, hooks, |space, update| space.reset(update))
    }

    /// Makes [`map_any`](Self::map_any) place at random. See [`Mappings::enable_aslr`].
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`].
    pub fn enable_aslr(&self, seed: u64) -> Result<(), Error> {
        self.check_reentry()?;
        self.lock_for_change().enable_aslr(seed);
        Ok(())
    }

    /// Marks everything that is mapped now as original. See [`Mappings::mark_original`].
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`].
    pub fn mark_original(&self) -> Result<(), Error> {
        self.check_reentry()?;
        self.lock_for_change().mark_original();
        Ok(())
    }

    /// Unmaps all that was mapped since the space was last marked. See
    /// [`Mappings::unmap_non_original`].
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::unmap_non_original`], and [`Error::Reentrant`].
    pub fn unmap_non_original<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.once(0, hooks, |space, update| space.unmap_non_original(update))
    }

    /// Saves the present state. See [`Mappings::checkpoint`].
    ///
    /// Counts the VMAs under the lock, allocates nodes without it, and counts again if the space
    /// has grown meanwhile. The eighth time it allocates what is missing under the lock.
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::checkpoint`], and [`Error::Reentrant`].
    pub fn checkpoint(&self) -> Result<Checkpoint<V, A>, Error> {
        self.check_reentry()?;
        let (alloc, first) = self.inspect(|space| (space.map.alloc().clone(), nodes_for(space)));
        let mut nodes = Preallocated::new(alloc);
        retry_with_nodes(first, |budget| {
            if let Err(error) = nodes.fill(budget.nodes()) {
                return Ok(Err(error));
            }
            self.inspect(|space| {
                let need = nodes_for(space);
                if budget.is_enough_for(need) {
                    Ok(space.checkpoint_with(&mut nodes))
                } else {
                    Err(need)
                }
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
    /// Those of [`Mappings::restore`], and [`Error::Reentrant`].
    pub fn restore<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        saved: &Checkpoint<V, A>,
        hooks: &mut H,
    ) -> Result<(), H::Error> {
        self.check_reentry()?;
        retry_with_nodes(self.inspect(|space| space.restore_cost(saved)), |budget| {
            self.update(budget.nodes(), hooks, |space, update| {
                let need = space.restore_cost(saved);
                if budget.is_enough_for(need) {
                    Ok(space.restore(saved, update))
                } else {
                    Err(need)
                }
            })
        })
    }

    /// Copies the space for another process, whose pages may become copy-on-write. See
    /// [`Mappings::fork_live`].
    ///
    /// `copy` runs under the lock. Counts and allocates as [`checkpoint`](Self::checkpoint) does.
    /// When this returns, the TLB flush has ended.
    ///
    /// # Errors
    ///
    /// Those of [`Mappings::fork_live`]; the copy's VMAs are dropped after unlock.
    /// [`Error::Reentrant`].
    pub fn fork<H: Hooks<Origin<V>> + ?Sized>(
        &self,
        alloc: A,
        hooks: &mut H,
        mut copy: impl FnMut(&mut H, &Vma<'_, Origin<V>>) -> Result<Option<(Attrs, V)>, H::Error>,
    ) -> Result<Mappings<V, A>, H::Error> {
        self.check_reentry()?;
        let mut copy = |hooks: &mut H, vma: &Vma<'_, _>| Ok(with_origin(vma, copy(hooks, vma)?));
        let mut nodes = Preallocated::new(alloc);
        // Out here, so that what a failed copy leaves is dropped without the lock.
        let mut child = None;
        let mut random = None;
        retry_with_nodes(self.inspect(nodes_for), |budget| {
            if let Err(error) = nodes.fill(budget.nodes()) {
                return Ok(Err(error.into()));
            }
            self.update(0, hooks, |space, update| {
                let need = nodes_for(space);
                random = space.random;
                if budget.is_enough_for(need) {
                    Ok(space.map.fork_live_into(&mut child, &mut nodes, update, &mut copy))
                } else {
                    Err(need)
                }
            })
        })?;
        Ok(Mappings::over(child.ok_or(Error::OutOfMemory)?, random))
    }
}

/// Returns the number of nodes that a copy of the space takes: one for each VMA, one for the map.
fn nodes_for<V: VmaData, A: NodeAlloc<VmaNode<Origin<V>>> + Clone>(
    space: &Mappings<V, A>,
) -> usize {
    space.map.len().saturating_add(1)
}
