//! User data with something beside it that a layer of this crate keeps for each VMA.
//!
//! It is here, and not in that layer, because it can be pinned: whoever reads why finds all of it.

use super::data::VmaData;
use super::pinned_data::PinnedData;
use crate::range::VmRange;

/// The kernel's data `V`, and beside it what a layer of this crate keeps for each VMA. It has the
/// key of the data.
#[derive(Clone, Copy)]
pub struct Annotated<A, V> {
    pub(crate) annotation: A,
    pub(crate) data: V,
}

/// The part that a layer of this crate keeps for each VMA. Both halves of a split VMA, and a copy,
/// get it.
pub trait Annotation: Copy {
    /// Returns `true` if two neighbours may merge as far as the layer is concerned.
    fn can_merge(&self, right: &Self) -> bool;

    /// Follows the VMA's pages, which move from `from` to the address `to`.
    fn relocate(&mut self, from: VmRange, to: u64);
}

impl<A: Annotation, V: VmaData> VmaData for Annotated<A, V> {
    fn split(&mut self, range: VmRange, at: u64) -> Self {
        Self { annotation: self.annotation, data: self.data.split(range, at) }
    }

    fn can_merge(&self, range: VmRange, right: &Self, right_range: VmRange) -> bool {
        self.annotation.can_merge(&right.annotation)
            && self.data.can_merge(range, &right.data, right_range)
    }

    fn merge(&mut self, range: VmRange, right: &mut Self, right_range: VmRange) {
        self.data.merge(range, &mut right.data, right_range);
    }

    fn fork(&self, range: VmRange) -> Self {
        Self { annotation: self.annotation, data: self.data.fork(range) }
    }

    fn relocate(&mut self, from: VmRange, to: u64) {
        self.annotation.relocate(from, to);
        self.data.relocate(from, to);
    }

    fn key(&self) -> u64 {
        self.data.key()
    }
}

// SAFETY: key and target are those of the data inside, a plain field that only `&mut` changes.
unsafe impl<A: Annotation, V: PinnedData> PinnedData for Annotated<A, V> {
    type Guard = V::Guard;
    type Ref<'g> = V::Ref<'g>;

    #[inline]
    unsafe fn from_key(key: u64, guard: &V::Guard) -> V::Ref<'_> {
        // SAFETY: the key is that of the data inside, which existed when the whole did.
        unsafe { V::from_key(key, guard) }
    }
}
