//! The allocator that the caller provides.

use super::{Content, Node};
use core::ptr::NonNull;

/// Where nodes come from: the kernel's own memory.
///
/// Implemented on a handle that is cheap to clone (`&'static FixedPool`, `Arc<BoxAlloc>`, a token
/// of the kernel's own). Nodes are asked for before a space's lock is taken and given back after it
/// is released, never under it, except by a bare [`VmMap`](crate::VmMap), which has no lock.
///
/// # Safety
///
/// - A node handed out is exclusively the receiver's until it comes back. It stays valid as long as
///   a clone of the handle exists.
/// - It is initialised: as [`Node::new`] made it, or just as it was when `dealloc` got it. A free
///   node is left alone, but for a [`NodeList`](super::NodeList) to keep it in.
/// - Clones of a handle are the same allocator: what one handed out, the other takes back.
pub unsafe trait NodeAlloc<T: Content> {
    /// A node, or `None` when memory has run out.
    fn alloc(&self) -> Option<NonNull<Node<T>>>;

    /// Takes a node back.
    ///
    /// # Safety
    ///
    /// `node` came from `alloc` of this allocator, is in no tree, and its data is gone.
    unsafe fn dealloc(&self, node: NonNull<Node<T>>);

    /// Whether two handles are of the same allocator, so that one takes back what the other gave.
    /// Operations ask before they trust the nodes in an [`Update`](crate::Update).
    ///
    /// The default is right for an allocator that is used by reference, and for a handle without a
    /// size. A handle of another kind must say so itself, or operations refuse it.
    fn is_same(&self, other: &Self) -> bool {
        size_of_val(self) == 0 || core::ptr::addr_eq(self, other)
    }
}

/// A charge on top of [`NodeAlloc`] that makes lookups without the lock simple: memory that was
/// once a node stays a node, readable, until the last handle of the allocator is gone.
///
/// The allocators of this crate keep it: freed nodes wait in a list for the next map that needs
/// one.
///
/// # Safety
///
/// After `dealloc` the node's memory is neither unmapped nor used for anything but nodes of the
/// same type, and is changed by nothing but this crate, while any handle lives. In particular a
/// node is not initialised anew when it is handed out again: a reader may be looking at it, and a
/// generation that begins again could be taken for an old one. Debug builds check that what `alloc`
/// hands out is a node that is in no tree.
pub unsafe trait TypeStable<T: Content>: NodeAlloc<T> {}

/// How readers without the lock keep the nodes in place that they may come by.
///
/// Every [`TypeStable`] allocator is one that needs nothing for it. An allocator that gives memory
/// back implements this trait instead, by its kernel's RCU or epochs: `dealloc` defers, and frees
/// the node (or hands it out again as [`Node::new`] makes it) once every guard that existed then is
/// dropped.
///
/// # Safety
///
/// A node that has not gone through `dealloc`, or did so after the guard was made, stays a node, as
/// for `TypeStable`, until the guard is dropped; and if `STAYS`, until the last handle is gone.
pub unsafe trait ReadSide<T: Content>: NodeAlloc<T> {
    /// Whether nodes stay nodes without a guard, too. If not, [`still_valid`] costs a walk.
    ///
    /// [`still_valid`]: crate::AddrSpace::still_valid
    const STAYS: bool;

    /// Keeps nodes in place while it exists.
    type Reading<'a>
    where
        Self: 'a;

    /// Begins to read. Must neither block nor wait for the space's lock.
    fn enter(&self) -> Self::Reading<'_>;
}

// SAFETY: what `TypeStable` promises.
unsafe impl<T: Content, A: TypeStable<T>> ReadSide<T> for A {
    const STAYS: bool = true;

    type Reading<'a>
        = ()
    where
        A: 'a;

    #[inline(always)]
    fn enter(&self) {}
}

// SAFETY: a reference is the allocator it refers to, and keeps it alive.
unsafe impl<T: Content, A: NodeAlloc<T> + ?Sized> NodeAlloc<T> for &A {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        (**self).alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller's charge is about the same allocator.
        unsafe { (**self).dealloc(node) }
    }

    fn is_same(&self, other: &Self) -> bool {
        (**self).is_same(&**other)
    }
}

// SAFETY: as above.
unsafe impl<T: Content, A: TypeStable<T> + ?Sized> TypeStable<T> for &A {}

#[cfg(any(feature = "alloc", loom))]
mod arc {
    use super::*;
    extern crate alloc;
    use alloc::sync::Arc;

    // SAFETY: an `Arc` is the allocator it holds, and keeps it alive.
    unsafe impl<T: Content, A: NodeAlloc<T> + ?Sized> NodeAlloc<T> for Arc<A> {
        fn alloc(&self) -> Option<NonNull<Node<T>>> {
            (**self).alloc()
        }

        unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
            // SAFETY: the caller's charge is about the same allocator.
            unsafe { (**self).dealloc(node) }
        }

        fn is_same(&self, other: &Self) -> bool {
            (**self).is_same(&**other)
        }
    }

    // SAFETY: as above.
    unsafe impl<T: Content, A: TypeStable<T> + ?Sized> TypeStable<T> for Arc<A> {}
}
