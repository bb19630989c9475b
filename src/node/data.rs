//! User data: what the kernel hangs on a VMA. It is defined here, below the VMAs, because a node
//! shows its data's key to readers, and may be asked to pin the data.

use crate::range::VmRange;

/// The kernel's data in each VMA: a file reference, a memory object, a slot.
///
/// All methods run under the space's lock and must not call back into it. They must not panic. If
/// one does, the map stays consistent, and hooks have heard of every page that has gone, except for
/// a VMA that was being moved; but the data that the method was working on may describe less than
/// its VMA, and hooks have not heard of what was mapped, or got other attributes, just then.
///
/// Data that an operation no longer needs is dropped after the lock has been released, and after
/// the TLB flush if there is one: data of VMAs that are removed, data whose VMA was merged into
/// another, and data that was handed to an operation which then failed. Only if five operations or
/// more fail in one update, and there is not a node to be had, is data of theirs dropped at once.
///
/// # Reverse maps
///
/// A kernel that keeps a list of the VMAs which show an object edits it in the hooks
/// [`on_map`](crate::Hooks::on_map) and [`on_unmap`](crate::Hooks::on_unmap), and in `split`,
/// `merge` and `relocate`, which are told the ranges: they run when the map changes. `Drop` is too
/// late, since something else may be mapped at the address by then. A forked VMA is entered by the
/// closure that makes its data, which knows the child.
///
/// ```
/// use kvma::{VmRange, VmaData};
///
/// /// An owner of pages that are counted: each VMA holds as many as it has pages.
/// struct Quota {
///     pages: u64,
/// }
///
/// impl VmaData for Quota {
///     fn split(&mut self, range: VmRange, at: u64) -> Self {
///         let left = (at - range.start()) / range.page_size().bytes();
///         let right = self.pages - left;
///         self.pages = left;
///         Self { pages: right }
///     }
///
///     fn can_merge(&self, _range: VmRange, _right: &Self, _right_range: VmRange) -> bool {
///         true
///     }
///
///     fn merge(&mut self, _range: VmRange, right: &mut Self, _right_range: VmRange) {
///         self.pages += right.pages;
///     }
///
///     fn fork(&self, _range: VmRange) -> Self {
///         Self { pages: self.pages }
///     }
///
///     fn key(&self) -> u64 {
///         self.pages // page faults see it without the lock
///     }
/// }
/// ```
pub trait VmaData: Sized {
    /// `true` if some VMAs keep pages free below them, as Linux' stacks do. What they keep is
    /// known to this crate alone.
    #[doc(hidden)]
    const HAS_GUARD_GAPS: bool = false;

    /// Splits the data of the VMA over `range`: `self` keeps what lies below `at`, the rest is
    /// returned.
    #[must_use]
    fn split(&mut self, range: VmRange, at: u64) -> Self;

    /// Returns `true` if two neighbours may merge as far as the kernel is concerned. Attributes
    /// have been found equal and offsets contiguous.
    fn can_merge(&self, range: VmRange, right: &Self, right_range: VmRange) -> bool;

    /// Takes in the data of the VMA to the right, which is dropped after the lock has been
    /// released.
    fn merge(&mut self, range: VmRange, right: &mut Self, right_range: VmRange) {
        let _ = (range, right, right_range);
    }

    /// Copies the data, for the same VMA in a child, or for another one of this space that shows
    /// the same pages.
    #[must_use]
    fn fork(&self, range: VmRange) -> Self;

    /// Follows the VMA's pages, which move from `from` to the address `to`. Called on the data of
    /// the VMA that will lie there, before it meets its new neighbours.
    fn relocate(&mut self, from: VmRange, to: u64) {
        let _ = (from, to);
    }

    /// Returns the number that readers without the lock see.
    ///
    /// A reader may use it after the VMA has been unmapped and its data dropped. So the number must
    /// mean something by itself: an identifier, or an index into a table that the kernel looks up
    /// under a lock of its own or by RCU. It must not be a pointer to memory that goes with the
    /// data: [`still_valid`](crate::AddrSpace::still_valid) tells that the VMA has gone only after
    /// the memory has been read. For a pointer there is
    /// [`lookup_pinned`](crate::AddrSpace::lookup_pinned).
    fn key(&self) -> u64 {
        0
    }
}

impl VmaData for () {
    fn split(&mut self, _range: VmRange, _at: u64) {}

    fn can_merge(&self, _range: VmRange, (): &(), _right_range: VmRange) -> bool {
        true
    }

    fn fork(&self, _range: VmRange) {}
}

/// Plain values as user data: both halves of a split VMA get the value, and VMAs merge if theirs
/// are equal.
///
/// ```
/// use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Plain, Prot, VmMap};
/// use kvma::VmaNode;
///
/// #[derive(Clone, PartialEq)]
/// struct FileId(u32);
///
/// let pool = FixedPool::<VmaNode<Plain<FileId>>, 8>::new();
/// let mut map = VmMap::new(0..=0xf_ffff, PageSize::SIZE_4K, &pool)?;
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::READ));
/// map.map(request.with_data(Plain(FileId(3))), &mut NoHooks)?;
/// map.unmap(0x5000, 0x1000, &mut NoHooks)?;
/// assert!(map.iter().all(|vma| vma.data().0.0 == 3));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plain<T>(pub T);

impl<T: Clone + PartialEq> VmaData for Plain<T> {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        self == right
    }

    fn fork(&self, _range: VmRange) -> Self {
        self.clone()
    }
}

#[cfg(feature = "alloc")]
mod arc {
    use super::{VmRange, VmaData};
    extern crate alloc;
    use alloc::sync::Arc;

    /// VMAs share the object, and merge if they have the same one.
    impl<T: ?Sized> VmaData for Arc<T> {
        fn split(&mut self, _range: VmRange, _at: u64) -> Self {
            Self::clone(self)
        }

        fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
            Self::ptr_eq(self, right)
        }

        fn fork(&self, _range: VmRange) -> Self {
            Self::clone(self)
        }
    }
}
