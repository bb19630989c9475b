//! Holding a range while slow work is done without the lock.

use super::{AddrSpace, WORST_CASE};
use crate::error::Error;
use crate::hooks::{Hooks, NoHooks};
use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::ranges::Merge;
use crate::sync::RawLock;
use crate::vm_map::{Hold, Placement, VmMap};
use crate::vma::{Attrs, VmaData, VmaNode};

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// Chooses a range and holds it, with `data` in it, until the claim is committed or dropped.
    /// Meanwhile the lock is free, and the caller may ask file systems and fill page tables,
    /// neither of which can be done under it. See [`VmMap::reserve`] for what others can and cannot
    /// do with the range.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, NoHooks, PageSize, Placement, Prot, Search, VmMap, VmaNode};
    /// # let pool = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000, 0xffff, PageSize::SIZE_4K, &pool)?);
    /// let claim = space.claim(Placement::Any(Search::new()), 0x3000, (), &mut NoHooks)?;
    /// let at = claim.range().start();
    /// assert!(space.lookup(at).is_none()); // not there yet, but nobody else gets it
    /// // ... slow work; an early return would cancel ...
    /// assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks)?, at);
    /// assert!(space.lookup(at).is_some());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn claim(
        &self,
        place: Placement,
        len: u64,
        data: V,
        hooks: &mut impl Hooks<V>,
    ) -> Result<Claim<'_, V, A, L>, Error> {
        let hold =
            self.update(WORST_CASE, hooks, |map, update| map.reserve(place, len, data, update))?;
        Ok(Claim { space: self, range: hold.range(), hold: Some(hold) })
    }
}

/// A range held by [`AddrSpace::claim`]. Dropping it gives the range up.
#[must_use = "dropping a claim cancels it"]
pub struct Claim<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> {
    space: &'a AddrSpace<VmMap<V, A>, L>,
    range: VmRange,
    /// Taken when it is committed.
    hold: Option<Hold>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> Claim<'_, V, A, L> {
    /// What is held.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Maps what is held, and returns the byte address; see [`VmMap::fulfil`]. If that fails, the
    /// claim is cancelled.
    pub fn commit(self, attrs: Attrs, data: V, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        self.commit_merging(attrs, data, Merge::Both, hooks)
    }

    /// The same, joined with certain neighbours only.
    pub fn commit_merging(
        mut self,
        attrs: Attrs,
        mut data: V,
        merge: Merge,
        hooks: &mut impl Hooks<V>,
    ) -> Result<u64, Error> {
        let Some(hold) = &self.hold else { return Err(Error::NotMapped) };
        // What comes back in `data` is dropped with this call, after the lock has been released.
        self.space
            .update(0, hooks, |map, update| map.fulfil(hold, attrs, &mut data, merge, update))?;
        self.hold = None;
        Ok(self.range.start())
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> Drop for Claim<'_, V, A, L> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            // Fails only if the map has been exchanged, and the range is gone with it.
            let _ = self.space.update(0, &mut NoHooks, |map, update| map.release(hold, update));
        }
    }
}
