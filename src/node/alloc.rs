//! The allocator that the kernel provides.

use core::ptr::NonNull;

use super::{Content, Node, NodeList};

/// A source of nodes: the kernel's own memory.
///
/// Implemented on a handle that is cheap to clone (`&'static FixedPool`, `Arc<BoxAlloc>`, a token
/// of the kernel's own). An [`AddrSpace`](crate::AddrSpace) asks for nodes before it takes its lock
/// and gives them back after it has released it. It calls under the lock only for nodes that a
/// change turns out to need beyond those, so the allocator's own lock, if it has one, comes after
/// the space's in the lock order, and must keep interrupts off if the space's does.
///
/// The ready allocators are [`FixedPool`](crate::FixedPool), [`Slab`](crate::Slab),
/// [`BoxAlloc`](crate::BoxAlloc) and [`Heap`](crate::Heap). One of a kernel's own, here with an
/// account of what there may be, hands the work to another:
///
/// ```
/// use std::ptr::NonNull;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use kvma::node::{Content, Node};
/// use kvma::{Error, FixedPool, NodeAlloc, PageSize, VmMap, VmaNode};
///
/// struct Limited<T: Content> {
///     pool: FixedPool<T, 64>,
///     left: AtomicUsize,
/// }
///
/// // SAFETY: every node is the pool's, whose promises these are.
/// unsafe impl<T: Content> NodeAlloc<T> for Limited<T> {
///     const TYPE_STABLE: bool = true;
///
///     fn alloc(&self) -> Option<NonNull<Node<T>>> {
///         let take = |left: usize| left.checked_sub(1);
///         self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
///         (&self.pool).alloc()
///     }
///
///     unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
///         self.left.fetch_add(1, Ordering::Relaxed);
///         // SAFETY: it is the pool's, and the caller gives it up.
///         unsafe { (&self.pool).dealloc(node) }
///     }
///
///     fn is_same(&self, other: &Self) -> bool {
///         std::ptr::eq(self, other)
///     }
/// }
///
/// let nodes = Limited::<VmaNode> { pool: FixedPool::new(), left: AtomicUsize::new(1) };
/// let map = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, &nodes)?;
/// let second = VmMap::<(), _>::new(0x1000..=0xffff, PageSize::SIZE_4K, &nodes);
/// assert_eq!(second.err(), Some(Error::OutOfMemory)); // the first has the one node
/// drop(map);
/// assert_eq!(nodes.left.load(Ordering::Relaxed), 1);
/// # Ok::<(), Error>(())
/// ```
///
/// # Safety
///
/// - A node handed out is exclusively the receiver's until it comes back by `dealloc`, and is
///   handed out to nobody else meanwhile. Its memory is aligned and stays valid as long as a clone
///   of the handle exists.
/// - It is initialised: as [`Node::new`] made it, or just as it was when `dealloc` got it. A free
///   node is left alone, but for a [`NodeList`](super::NodeList) to keep it in.
/// - Clones of a handle are the same allocator: what one handed out, the other takes back.
/// - [`is_same`](Self::is_same) never says `true` of handles of two allocators: nodes would end up
///   in the wrong one.
/// - If [`TYPE_STABLE`](Self::TYPE_STABLE), memory that was once a node stays a node, readable,
///   until the last handle of the allocator is gone. It is neither unmapped nor used for anything
///   but nodes of the same type, and not initialised anew when it is handed out again: a reader may
///   be looking at it, and a generation that begins again could be taken for an old one.
pub unsafe trait NodeAlloc<T: Content> {
    /// `true` if a node's memory stays a node after `dealloc`. The ready allocators but `Heap` keep
    /// it: freed nodes wait in a list for the next map that needs one. That makes lookups without
    /// the lock, and checking their tokens, as cheap as they can be.
    const TYPE_STABLE: bool;

    /// Returns a node, or `None` when memory has run out.
    fn alloc(&self) -> Option<NonNull<Node<T>>>;

    /// Takes a node back.
    ///
    /// # Safety
    ///
    /// `node` came from `alloc` of this allocator, is in no tree, and its data is gone.
    unsafe fn dealloc(&self, node: NonNull<Node<T>>);

    /// Hands out up to `count` nodes to `take`, fewer when memory has run out. Does what calls of
    /// [`alloc`](Self::alloc) do; an allocator with a lock of its own takes it once. `take` does
    /// not call the allocator.
    fn alloc_many(&self, count: usize, take: impl FnMut(NonNull<Node<T>>)) {
        core::iter::from_fn(|| self.alloc()).take(count).for_each(take);
    }

    /// Takes all nodes of a list back. Does what calls of [`dealloc`](Self::dealloc) do; an
    /// allocator with a lock of its own takes it once.
    ///
    /// # Safety
    ///
    /// Each of them is as `dealloc` asks.
    unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
        while let Some(node) = nodes.pop_front() {
            // SAFETY: by the contract of this method.
            unsafe { self.dealloc(node) };
        }
    }

    /// Returns `true` if two handles are of the same allocator, so that one takes back the nodes
    /// that the other gave. Operations ask before they trust the nodes in an
    /// [`Update`](crate::Update). A handle without a size has only itself to compare with: `true`.
    fn is_same(&self, other: &Self) -> bool;
}

/// An allocator whose nodes may be looked at without the lock of the space that they are in.
///
/// If the allocator is [type-stable](NodeAlloc::TYPE_STABLE), nothing needs to be done: the guard
/// is `()`. An allocator that gives memory back implements this by its kernel's RCU or epochs:
/// `dealloc` defers, and frees the node (or hands it out again as [`Node::new`] makes it) once
/// every guard that existed then is dropped.
///
/// For a type-stable allocator of one's own, such as that of the example of [`NodeAlloc`]:
///
/// ```
/// # use std::ptr::NonNull;
/// # use kvma::node::{Content, Node};
/// use kvma::{AddrSpace, Error, FixedPool, NodeAlloc, PageSize, ReadSide, VmMap, VmaNode};
///
/// struct Nodes<T: Content>(FixedPool<T, 64>);
/// # // SAFETY: every node is the pool's, whose promises these are.
/// # unsafe impl<T: Content> NodeAlloc<T> for Nodes<T> {
/// #     const TYPE_STABLE: bool = true;
/// #     fn alloc(&self) -> Option<NonNull<Node<T>>> { (&self.0).alloc() }
/// #     unsafe fn dealloc(&self, node: NonNull<Node<T>>) { unsafe { (&self.0).dealloc(node) } }
/// #     fn is_same(&self, other: &Self) -> bool { std::ptr::eq(self, other) }
/// # }
///
/// // SAFETY: nodes stay nodes, guard or not.
/// unsafe impl<T: Content> ReadSide<T> for Nodes<T> {
///     type Guard<'a>
///         = ()
///     where
///         Self: 'a;
///
///     fn enter(&self) {}
/// }
///
/// let nodes = Nodes(FixedPool::<VmaNode, 64>::new());
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let space = AddrSpace::new(map);
/// assert!(space.lookup(0x5000).is_none()); // there is no `lookup` without `ReadSide`
/// # Ok::<(), Error>(())
/// ```
///
/// # Safety
///
/// - A node that has not gone through `dealloc`, or did so after the guard was made, stays a node
///   until the guard is dropped.
/// - `enter` synchronises with `dealloc` as RCU does: either `dealloc`, called in another thread,
///   finds the guard and waits for it, or whatever that thread did before it called `dealloc` is
///   seen by every read under the guard. (A `SeqCst` fence on both sides does it.)
pub unsafe trait ReadSide<T: Content>: NodeAlloc<T> {
    /// Keeps nodes in place while it exists.
    type Guard<'a>
    where
        Self: 'a;

    /// Begins to read. Must neither block nor wait for the space's lock.
    fn enter(&self) -> Self::Guard<'_>;
}

// SAFETY: a reference is the allocator that it refers to, and keeps it alive.
unsafe impl<T: Content, A: NodeAlloc<T> + ?Sized> NodeAlloc<T> for &A {
    const TYPE_STABLE: bool = A::TYPE_STABLE;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        (**self).alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller's promise is about the same allocator.
        unsafe { (**self).dealloc(node) }
    }

    fn alloc_many(&self, count: usize, take: impl FnMut(NonNull<Node<T>>)) {
        (**self).alloc_many(count, take);
    }

    unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
        // SAFETY: the caller's promise is about the same allocator.
        unsafe { (**self).dealloc_list(nodes) }
    }

    fn is_same(&self, other: &Self) -> bool {
        (**self).is_same(&**other)
    }
}

// SAFETY: the guard is the one of the allocator that the reference refers to, whose nodes these
// are.
unsafe impl<T: Content, A: ReadSide<T> + ?Sized> ReadSide<T> for &A {
    type Guard<'a>
        = A::Guard<'a>
    where
        Self: 'a;

    #[inline(always)]
    fn enter(&self) -> A::Guard<'_> {
        (**self).enter()
    }
}

#[cfg(any(feature = "alloc", loom))]
mod arc {
    use super::{Content, Node, NodeAlloc, NodeList, NonNull, ReadSide};
    extern crate alloc;
    use alloc::sync::Arc;

    // SAFETY: an `Arc` is the allocator that it holds, and keeps it alive.
    unsafe impl<T: Content, A: NodeAlloc<T> + ?Sized> NodeAlloc<T> for Arc<A> {
        const TYPE_STABLE: bool = A::TYPE_STABLE;

        fn alloc(&self) -> Option<NonNull<Node<T>>> {
            (**self).alloc()
        }

        unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
            // SAFETY: the caller's promise is about the same allocator.
            unsafe { (**self).dealloc(node) }
        }

        fn alloc_many(&self, count: usize, take: impl FnMut(NonNull<Node<T>>)) {
            (**self).alloc_many(count, take);
        }

        unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
            // SAFETY: the caller's promise is about the same allocator.
            unsafe { (**self).dealloc_list(nodes) }
        }

        fn is_same(&self, other: &Self) -> bool {
            (**self).is_same(&**other)
        }
    }

    // SAFETY: the guard is the one of the allocator in the `Arc`, whose nodes these are.
    unsafe impl<T: Content, A: ReadSide<T> + ?Sized> ReadSide<T> for Arc<A> {
        type Guard<'a>
            = A::Guard<'a>
        where
            Self: 'a;

        #[inline(always)]
        fn enter(&self) -> A::Guard<'_> {
            (**self).enter()
        }
    }
}
