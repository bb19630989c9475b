//! Changes of two address spaces at once, under both locks.

use core::ptr;

use super::{AddrSpace, HasVmMap};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::pending_flush::FlushSlot;
use crate::sync::RawLock;
use crate::update::Update;

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
    ///
    /// ```
    /// use kvma::Merge;
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// # let other = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// // What is moved is never in neither, and never in both.
    /// let (mut here, mut there) = (NoHooks, NoHooks);
    /// space.update_both(&other, 3, &mut here, &mut there, |ours, update, theirs, theirs_update| {
    ///     ours.transfer(0x4000, 0x2000, update, theirs, 0x4000, Merge::Both, theirs_update)
    /// })??;
    /// assert!(other.lookup(0x4000).is_some() && space.lookup(0x4000).is_none());
    /// # Ok::<(), Error>(())
    /// ```
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
        let slot = FlushSlot::new(&self.pending_flushes);
        let other_slot = FlushSlot::new(&other.pending_flushes);
        let mut update = self.new_update(&slot, hooks);
        let mut other_update = other.new_update(&other_slot, other_hooks);
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
        other_update.finish();
        update.finish();
        slot.end_if_forgotten(|| hooks.flush_wait());
        other_slot.end_if_forgotten(|| other_hooks.flush_wait());
        Ok(result)
    }
}
