//! Nodes from the global allocator.

extern crate alloc;

use alloc::alloc::{Layout, alloc as global_alloc};
use alloc::boxed::Box;
use core::fmt;
use core::ptr::{self, NonNull};

use super::free_nodes::FreeNodes;
use super::{Content, Node, NodeAlloc, NodeList, ReadSide};
use crate::sync::{Locked, RawLock, Ticket};

/// Takes a block of the heap, and makes it a node.
fn new_node<T: Content>() -> Option<NonNull<Node<T>>> {
    // SAFETY: a node is not zero-sized.
    let memory = unsafe { global_alloc(Layout::new::<Node<T>>()) }.cast::<Node<T>>();
    let node = NonNull::new(memory)?;
    // SAFETY: fresh memory of the right layout.
    unsafe { node.write(Node::new()) };
    Some(node)
}

/// An allocator that takes each node from the heap and gives it straight back. What a
/// [`RangeMap`](crate::RangeMap) uses unless told otherwise.
///
/// It is not type-stable, so it serves no space that is looked up without the lock:
/// [`BoxAlloc`] does. Running out of memory is an answer, not an abort.
///
/// ```
/// use kvma::{Heap, PageSize, VmMap};
///
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Heap)?;
/// assert!(map.is_empty());
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

// SAFETY: a block of the heap is the receiver's alone, valid until it is given back, and
// initialised here. All handles are the one global allocator.
unsafe impl<T: Content> NodeAlloc<T> for Heap {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        new_node()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: it came from the global allocator with the layout of a box of its type.
        drop(unsafe { Box::from_raw(node.as_ptr()) });
    }

    fn is_same(&self, _other: &Self) -> bool {
        true
    }
}

/// An allocator over the heap that keeps freed nodes for the next call. Share it as
/// `Arc<BoxAlloc<_>>` or `&BoxAlloc<_>`.
///
/// The memory goes back to the heap when the allocator is dropped: that makes its nodes
/// type-stable, fit for lookups without the lock. Running out of memory is an answer, not an abort.
///
/// ```
/// use std::sync::Arc;
/// use kvma::{AddrSpace, BoxAlloc, PageSize, VmMap};
///
/// let nodes = Arc::new(BoxAlloc::new());
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Arc::clone(&nodes))?;
/// let space = AddrSpace::new(map);
/// assert!(space.lookup(0x1000).is_none());
/// assert_eq!(nodes.in_use(), 1);
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct BoxAlloc<T: Content, L: RawLock = Ticket> {
    free: Locked<FreeNodes<T>, L>,
}

// SAFETY: the free nodes are behind a lock, and hold no data.
unsafe impl<T: Content, L: RawLock + Sync> Sync for BoxAlloc<T, L> {}
// SAFETY: the free nodes belong to the allocator alone, and hold no data.
unsafe impl<T: Content, L: RawLock + Send> Send for BoxAlloc<T, L> {}

impl<T: Content> BoxAlloc<T> {
    /// Creates an allocator that has taken nothing from the heap yet.
    pub fn new() -> Self {
        Self::with_lock(Ticket::new())
    }
}

impl<T: Content, L: RawLock> BoxAlloc<T, L> {
    /// Creates an allocator behind a free lock, such as one that keeps interrupts off.
    pub const fn with_lock(lock: L) -> Self {
        Self { free: Locked::new(FreeNodes::new(), lock) }
    }

    /// Returns the number of nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.free.lock().in_use()
    }
}

impl<T: Content> Default for BoxAlloc<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Content, L: RawLock> fmt::Debug for BoxAlloc<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxAlloc").field("in_use", &self.in_use()).finish()
    }
}

// SAFETY: a node is either out or in `free`. It is initialised once, when the heap gives it, and
// stays a node until the allocator is dropped, so it is type-stable. Two handles are the same if
// they are the same allocator: it has a size.
unsafe impl<T: Content, L: RawLock> NodeAlloc<T> for BoxAlloc<T, L> {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        let recycled = self.free.lock().pop();
        recycled.or_else(|| {
            let node = new_node()?;
            self.free.lock().count_new();
            Some(node)
        })
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller gives up a node of ours that is in no tree.
        unsafe { self.free.take_back(node) };
    }

    fn alloc_many(&self, count: usize, take: impl FnMut(NonNull<Node<T>>)) {
        self.free.hand_out(count, || self.alloc(), take);
    }

    unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
        // SAFETY: they are nodes of ours that are in no tree, by the contract of this method.
        unsafe { self.free.take_back_all(nodes) };
    }

    fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

// SAFETY: type-stable, so nothing needs to be kept in place.
unsafe impl<T: Content, L: RawLock> ReadSide<T> for BoxAlloc<T, L> {
    type Guard<'a>
        = ()
    where
        Self: 'a;

    #[inline(always)]
    fn enter(&self) {}
}

impl<T: Content, L: RawLock> Drop for BoxAlloc<T, L> {
    fn drop(&mut self) {
        let free = self.free.get_mut();
        while let Some(node) = free.withdraw() {
            // SAFETY: it came from the global allocator with the layout of a box of its type, and
            // with the last handle the last reader is gone.
            drop(unsafe { Box::from_raw(node.as_ptr()) });
        }
    }
}
