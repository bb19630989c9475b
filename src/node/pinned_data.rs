//! User data that lookups without the lock may pin.

use super::data::VmaData;
#[cfg(any(feature = "alloc", loom))]
use crate::range::VmRange;
#[cfg(any(feature = "alloc", loom))]
use crate::sync::pinned::{Guard, Pinned, Shared, StaticDomain};

/// User data that readers without the lock may look at while they have a guard.
///
/// [`Shared`](crate::pinned::Shared) implements it. A kernel implements it for two kinds of types:
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

#[cfg(any(feature = "alloc", loom))]
impl<T, D: StaticDomain> VmaData for Shared<T, D> {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        self == right
    }

    fn fork(&self, _range: VmRange) -> Self {
        self.clone()
    }

    /// Returns the object's address.
    fn key(&self) -> u64 {
        Self::expose_addr(self) as u64
    }
}

// SAFETY: the target is the object, which exists as long as the reference and never moves, and the
// key is its address. `Domain::enter` ends with a full fence; `Domain::retire` begins with one
// after the last reference has gone, and then looks for readers before it drops the object.
#[cfg(any(feature = "alloc", loom))]
unsafe impl<T: Send + Sync + 'static, D: StaticDomain> PinnedData for Shared<T, D> {
    type Guard = Guard<D>;
    type Ref<'g> = Pinned<'g, T, D>;

    #[inline]
    unsafe fn from_key(key: u64, guard: &Guard<D>) -> Pinned<'_, T, D> {
        // SAFETY: the address of an object to which there was a reference after the guard was made,
        // by the contract of this method.
        unsafe { Pinned::from_exposed_addr(key as usize, guard) }
    }
}
