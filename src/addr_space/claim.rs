//! Claims that cannot leak: a range is held while slow work is done without the lock.

use core::fmt;

use super::{AddrSpace, NODES_PER_OPERATION};
use crate::error::Error;
use crate::hooks::{Hooks, NoHooks};
use crate::node::NodeAlloc;
use crate::placement::Placement;
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::sync::RawLock;
use crate::vm_map::{ClaimedRange, VmMap};
use crate::vma::{Attrs, VmaData, VmaNode};

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// Chooses a range and holds it until the claim is committed or dropped. Meanwhile the lock is
    /// free, and the caller may ask file systems and fill page tables, neither of which can be done
    /// under it. See [`VmMap::claim`] for what others can and cannot do with the range.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::Search;
    /// # use kvma::{VmMap, VmaNode};
    /// # let pool = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &pool)?);
    /// let claim = space.claim(Placement::Any(Search::new()), 0x3000, &mut NoHooks)?;
    /// let addr = claim.range().start();
    /// assert!(space.lookup(addr).is_none()); // not there yet, but nobody else is given it
    /// // ... slow work; an early return would give the range back ...
    /// assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks)?, addr);
    /// assert!(space.lookup(addr).is_some());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::claim`], and [`Error::Reentrant`].
    pub fn claim<H: Hooks<V> + ?Sized>(
        &self,
        placement: Placement,
        len: u64,
        hooks: &mut H,
    ) -> Result<Claim<'_, V, A, L>, H::Error> {
        self.check_reentry()?;
        let claimed = self.update(NODES_PER_OPERATION, hooks, |map, update| {
            self.aim_at(map, placement);
            map.claim(placement, len, update)
        })?;
        Ok(Claim { space: self, range: claimed.range(), claimed: Some(claimed) })
    }
}

/// A range held by [`AddrSpace::claim`]. Dropping it gives the range back.
///
/// ```
/// use kvma::{AddrSpace, Attrs, FixedPool, NoHooks, PageSize, Placement, Prot, Search, VmMap};
/// use kvma::VmaNode;
///
/// static NODES: FixedPool<VmaNode, 16> = FixedPool::new();
/// let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &NODES)?);
///
/// let claim = space.claim(Placement::Any(Search::new()), 0x4000, &mut NoHooks)?;
/// assert!(space.lookup(claim.range().start()).is_none()); // not mapped, and nobody else gets it
/// // … open the file, reserve memory, without the lock …
/// let at = claim.commit(Attrs::new(Prot::READ), (), &mut NoHooks)?;
/// assert!(space.lookup(at).is_some());
/// # Ok::<(), kvma::Error>(())
/// ```
#[must_use = "dropping a claim gives the range back"]
pub struct Claim<'a, V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> {
    space: &'a AddrSpace<VmMap<V, A>, L>,
    range: VmRange,
    /// Taken when it is committed.
    claimed: Option<ClaimedRange>,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> Claim<'_, V, A, L> {
    /// Returns the range that is held.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Maps the range, merged with both neighbours where possible, and returns the byte address.
    /// O(log n), takes the lock.
    ///
    /// # Errors
    ///
    /// Those of [`VmMap::commit_claim`]; the range has been given back then.
    pub fn commit<H: Hooks<V> + ?Sized>(
        self,
        attrs: Attrs,
        data: V,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.commit_merging(attrs, data, Merge::Both, hooks)
    }

    /// Commits as [`commit`](Self::commit) does, merging only with certain neighbours.
    ///
    /// # Errors
    ///
    /// Those of [`commit`](Self::commit).
    pub fn commit_merging<H: Hooks<V> + ?Sized>(
        mut self,
        attrs: Attrs,
        data: V,
        merge: Merge,
        hooks: &mut H,
    ) -> Result<u64, H::Error> {
        self.space.check_reentry()?;
        let Some(claimed) = &self.claimed else { return Err(Error::ClaimLost.into()) };
        self.space.update(0, hooks, |map, update| {
            self.space.aim(map, self.range.start());
            map.commit_claim(claimed, attrs, data, merge, update)
        })?;
        self.claimed = None;
        Ok(self.range.start())
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> Drop for Claim<'_, V, A, L> {
    fn drop(&mut self) {
        if let Some(claimed) = self.claimed.take() {
            // Fails only if the map has been exchanged, and the claim is gone with it.
            let _ = self.space.update(0, &mut NoHooks, |map, update| {
                self.space.aim(map, self.range.start());
                let released = map.release_claim(claimed, update);
                self.space.note_gap(map, self.range.start());
                released
            });
        }
    }
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone, L: RawLock> fmt::Debug for Claim<'_, V, A, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").field("range", &self.range).finish()
    }
}
