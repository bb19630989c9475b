//! Lookups that return the user data itself, and the user data that allows it.

use crate::addr_space::{AddrSpace, HasVmMap, VmaSnapshot};
#[cfg(feature = "compat")]
use crate::compat::Origin;
use crate::node::ReadSide;
use crate::sync::RawLock;
use crate::tree::Busy;
use crate::vma::{VmaData, VmaNode};

/// User data that readers without the lock may look at while they have a guard.
///
/// [`Shared`](super::Shared) implements it. A kernel implements it for two kinds of types:
///
/// - A struct or enum that contains a `Shared`, whose `key` and `from_key` it calls:
///
///   ```
///   use kvma::pinned::{Guard, Pinned, PinnedData, Shared};
///   use kvma::{VmaData, VmRange};
///   # use kvma::pinned_domain;
///   # struct File;
///   # pinned_domain! { struct Objects; }
///
///   /// Anonymous memory, or a file.
///   #[derive(Clone, PartialEq)]
///   struct Memory(Option<Shared<File, Objects>>);
///
///   impl VmaData for Memory {
///       fn split(&mut self, _range: VmRange, _at: u64) -> Self {
///           self.clone()
///       }
///       fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
///           self == right
///       }
///       fn fork(&self, _range: VmRange) -> Self {
///           self.clone()
///       }
///       fn key(&self) -> u64 {
///           self.0.as_ref().map_or(0, VmaData::key)
///       }
///   }
///
///   // SAFETY: the key is 0 or that of the `Shared` in `self`, which is only replaced through
///   // `&mut self`.
///   unsafe impl PinnedData for Memory {
///       type Guard = Guard<Objects>;
///       type Ref<'g> = Option<Pinned<'g, File, Objects>>;
///
///       unsafe fn from_key(key: u64, guard: &Guard<Objects>) -> Self::Ref<'_> {
///           // SAFETY: a key other than 0 is that of the `Shared` in a value which existed after
///           // the guard was made, by the contract of this function.
///           (key != 0).then(|| unsafe { Shared::from_key(key, guard) })
///       }
///   }
///   ```
///
/// - A pointer type of its own, whose memory it frees after a grace period of its own RCU or
///   epochs. `Guard` is then the type that proves that the read side has been entered.
///
/// # Safety
///
/// The *target* of a value is what [`from_key`](Self::from_key) returns access to if it is given
/// the value's [`key`](VmaData::key). There may be values without a target.
///
/// 1. The target exists as long as the value does, at one place, and may be accessed by any thread
///    in the way that `Ref` allows.
/// 2. `key` does not panic, and returns the same number until the value is changed through
///    `&mut self`. In particular, no method replaces the target through `&self`.
/// 3. When a value is dropped, or gets another target, the former target remains until all guards
///    have been dropped that were made before. All processors must agree on "before": making a
///    guard ends with a sequentially consistent fence, or with something as strong, and there is
///    another such fence between the end of the value and the search for guards. RCU's grace
///    periods give this guarantee.
/// 4. `from_key` accepts every key that a value of the type may return.
pub unsafe trait PinnedData: VmaData {
    /// Keeps targets from being dropped while it exists.
    type Guard;

    /// Access to a target while the guard is borrowed: a reference, or an `Option` of one.
    type Ref<'g>;

    /// Returns access to the target of the value that had this key. It runs without the space's
    /// lock, and must not wait.
    ///
    /// # Safety
    ///
    /// `key` is what [`key`](VmaData::key) returned for a value of this type that existed at some
    /// time after `guard` was made.
    unsafe fn from_key(key: u64, guard: &Self::Guard) -> Self::Ref<'_>;
}

// SAFETY: the key is that of the data inside, which exists as long as the origin does, and is only
// changed through `&mut`.
#[cfg(feature = "compat")]
unsafe impl<V: PinnedData> PinnedData for Origin<V> {
    type Guard = V::Guard;
    type Ref<'g> = V::Ref<'g>;

    #[inline]
    unsafe fn from_key(key: u64, guard: &V::Guard) -> V::Ref<'_> {
        // SAFETY: an origin has the key of the data inside, which existed when the origin did.
        unsafe { V::from_key(key, guard) }
    }
}

/// The guard under which user data of the map `M` is pinned.
type GuardOf<M> = <<M as HasVmMap>::Data as PinnedData>::Guard;

/// Access to user data of the map `M` while a guard is borrowed.
type RefOf<'g, M> = <<M as HasVmMap>::Data as PinnedData>::Ref<'g>;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Data: PinnedData,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns the VMA that holds the byte at `addr`, as [`lookup`](Self::lookup) does, and its
    /// user data, which is pinned as long as `guard` exists. O(log n). Takes the lock only when
    /// [`lookup`](Self::lookup) does.
    ///
    /// Snapshot and data are of the same time. The data may have been removed from the VMA by the
    /// time it is used; [`still_valid`](Self::still_valid) tells. One guard serves any number of
    /// lookups, in all spaces whose data has guards of that type.
    ///
    /// See [`pinned`](crate::pinned) for an example.
    #[inline]
    pub fn lookup_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Option<(VmaSnapshot, RefOf<'g, M>)> {
        let vma = self.lookup(addr)?;
        // SAFETY: looked up here, while the guard existed.
        Some((vma, unsafe { pin::<M>(&vma, guard) }))
    }

    /// Looks up as [`lookup_pinned`](Self::lookup_pinned) does, but never waits: for the same
    /// places as [`try_lookup`](Self::try_lookup).
    ///
    /// # Errors
    ///
    /// [`Busy`] if changes were always in the way.
    #[inline]
    pub fn try_lookup_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Result<Option<(VmaSnapshot, RefOf<'g, M>)>, Busy> {
        let Some(vma) = self.try_lookup(addr)? else { return Ok(None) };
        // SAFETY: looked up here, while the guard existed.
        Ok(Some((vma, unsafe { pin::<M>(&vma, guard) })))
    }
}

/// Returns access to the user data of a VMA that was looked up.
///
/// # Safety
///
/// The snapshot was looked up in a space over `M` while the guard existed.
#[inline(always)]
unsafe fn pin<'g, M>(vma: &VmaSnapshot, guard: &'g GuardOf<M>) -> RefOf<'g, M>
where
    M: HasVmMap<Data: PinnedData>,
{
    // SAFETY: the lookup found the key in a node whose generation was even, and the same before and
    // after; or it had the lock. User data is changed, moved and removed in write sections only,
    // in which the generation is odd, and each section that leaves data in the node ends with the
    // key of that data. So a value with this key existed at some time during the lookup.
    unsafe { M::Data::from_key(vma.key(), guard) }
}
