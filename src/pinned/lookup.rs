//! Lookups that give the user data itself.

use crate::addr_space::{AddrSpace, HasVmMap, VmaSnapshot};
#[cfg(feature = "compat")]
use crate::compat::Origin;
use crate::node::ReadSide;
use crate::sync::RawLock;
use crate::tree::Busy;
use crate::vma::{VmaData, VmaNode};

/// User data that readers without the lock may look at while they hold a guard.
///
/// [`Shared`](super::Shared) is. Two kinds of types implement this trait themselves:
///
/// - A struct or enum that contains a `Shared`. It hands `key` and `from_key` on:
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
///   // SAFETY: the key is 0 or that of the `Shared` in `self`, which is never exchanged by way of
///   // a shared reference.
///   unsafe impl PinnedData for Memory {
///       type Guard = Guard<Objects>;
///       type Ref<'g> = Option<Pinned<'g, File, Objects>>;
///
///       unsafe fn from_key(key: u64, guard: &Guard<Objects>) -> Self::Ref<'_> {
///           // SAFETY: the caller's; a key that is not 0 is that of a `Shared`.
///           (key != 0).then(|| unsafe { Shared::from_key(key, guard) })
///       }
///   }
///   ```
///
/// - A kernel's own pointer type, whose memory is freed after a grace period of the kernel's own
///   RCU or epochs. Its `Guard` is the kernel's proof that a read side has been entered.
///
/// # Safety
///
/// Call a value's *target* what [`from_key`](Self::from_key) gives access to for its
/// [`key`](VmaData::key).
///
/// 1. As long as a value exists, its target does, and may be looked at by any thread (it is
///    `Sync`).
/// 2. `key` does not panic, and returns the same number each time until the value is changed
///    through `&mut self`: nothing exchanges the target through `&self`.
/// 3. When a value is dropped, or changed to have another target, the former target stays as it is
///    until every `Guard` is dropped that was made before. "Before" must hold on all processors
///    without further help: there is a sequentially consistent fence, or what is as strong, after
///    a guard begins to count and before its holder gets it, and another one after the value has
///    gone and before guards are looked for. RCU's grace periods promise that.
/// 4. `from_key` upholds that for every key that a value of this type may give, 0 included if one
///    does.
pub unsafe trait PinnedData: VmaData {
    /// Keeps targets in place while it exists.
    type Guard;

    /// Access to a target while the guard is borrowed: a reference, or an `Option` of one.
    type Ref<'g>;

    /// Returns access to the target of the value whose key this is. Must neither block nor take a
    /// lock; called without the space's lock.
    ///
    /// # Safety
    ///
    /// `key` is what [`key`](VmaData::key) gave for a value of this type that existed at some time
    /// after `guard` was made.
    unsafe fn from_key(key: u64, guard: &Self::Guard) -> Self::Ref<'_>;
}

// SAFETY: the key is that of the data inside, which lives as long as the origin and is reached by
// `&mut` alone.
#[cfg(feature = "compat")]
unsafe impl<V: PinnedData> PinnedData for Origin<V> {
    type Guard = V::Guard;
    type Ref<'g> = V::Ref<'g>;

    #[inline]
    unsafe fn from_key(key: u64, guard: &V::Guard) -> V::Ref<'_> {
        // SAFETY: the caller's, and keys of both are the same.
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
    /// Finds the VMA that holds the byte at `addr`, as [`lookup`](Self::lookup) does, and pins its
    /// user data until `guard` is dropped. O(log n).
    ///
    /// The data is what the VMA had at the time of which the snapshot is. It may be in no VMA any
    /// more when it is used; the token in the snapshot tells, as it does for everything else in
    /// there. The guard may have been made long before, and serves any number of lookups in spaces
    /// whose data is of one domain.
    ///
    /// Takes the space's lock only where [`lookup`](Self::lookup) does.
    #[inline]
    pub fn lookup_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Option<(VmaSnapshot, RefOf<'g, M>)> {
        let vma = self.lookup(addr)?;
        // SAFETY: `pin`'s.
        Some((vma, unsafe { pin::<M>(&vma, guard) }))
    }

    /// As [`lookup_pinned`](Self::lookup_pinned), but never takes the lock: for the places that
    /// [`try_lookup`](Self::try_lookup) is for.
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
        // SAFETY: `pin`'s.
        Ok(Some((vma, unsafe { pin::<M>(&vma, guard) })))
    }
}

/// # Safety
///
/// The snapshot is of a space over `M`, looked up after the guard was made.
///
/// That suffices. The lookup has found the key in a node whose generation was even, and the same
/// before and after (or has held the lock). User data changes, moves and goes in write sections
/// only, in which the generation is odd, and each ends with the new key: so the key was that of a
/// value that existed then, and what ends that value comes after a change of the generation that
/// the lookup has not seen.
#[inline(always)]
unsafe fn pin<'g, M>(vma: &VmaSnapshot, guard: &'g GuardOf<M>) -> RefOf<'g, M>
where
    M: HasVmMap<Data: PinnedData>,
{
    // SAFETY: see above: a value with this key existed at some time during the lookup.
    unsafe { M::Data::from_key(vma.key(), guard) }
}
