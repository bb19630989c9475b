//! The memory of nodes: the caller's allocator, and a few nodes that a handle keeps from one call
//! to the next, so that not every call goes to the allocator.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use engine::node::{Content, Node, NodeAlloc, NodeList};
use engine::{Error, VmaNode};

use crate::alloc::Memory;

/// The most nodes that one operation on a range needs.
#[cfg(feature = "std")]
pub(crate) const NODES_PER_OPERATION: usize = 3;

/// The most nodes that are kept: those that one operation needs, and a few that it removes.
const KEPT: usize = 8;

struct List<T: Content> {
    /// A call is at the list. Calls that change a space come one at a time, and with them whoever
    /// finishes an update after unlocking: who finds another here goes to the allocator.
    is_busy: AtomicBool,
    free: UnsafeCell<NodeList<T>>,
}

/// The owner of the nodes that are kept. It has to outlive the maps that allocate from it.
pub(crate) struct KeptNodes<T: Content> {
    source: NodeSource<T>,
}

impl<T: Content> KeptNodes<T> {
    /// Takes memory for the list.
    ///
    /// # Errors
    ///
    /// `OutOfMemory`.
    pub(crate) fn new(memory: Memory) -> Result<Self, Error> {
        let free = UnsafeCell::new(NodeList::new());
        let list = memory.store(List { is_busy: AtomicBool::new(false), free });
        let list = list.ok_or(Error::OutOfMemory)?;
        Ok(Self { source: NodeSource { memory, list } })
    }

    /// Returns the handle that maps allocate with.
    pub(crate) fn source(&self) -> NodeSource<T> {
        self.source
    }
}

impl<T: Content> Drop for KeptNodes<T> {
    fn drop(&mut self) {
        let NodeSource { memory, list } = self.source;
        // SAFETY: the list is valid until the end of this function, and nobody else uses it: the
        // maps that had handles are gone.
        while let Some(node) = unsafe { &mut *list.as_ref().free.get() }.pop_front() {
            // SAFETY: it came from `memory`, and is in nothing any more.
            unsafe { memory.deallocate(node) }
        }
        // SAFETY: it came from `store` of this memory.
        unsafe { memory.drop_stored(list) }
    }
}

/// An allocator of nodes. Valid as long as the [`KeptNodes`] that it is of, which is as long as the
/// handle: updates of it are finished before, as their documentation has it.
pub(crate) struct NodeSource<T: Content> {
    memory: Memory,
    list: NonNull<List<T>>,
}

/// The source of the nodes of VMAs with user data `V`.
pub(crate) type VmaSource<V> = NodeSource<VmaNode<V>>;

impl<T: Content> Clone for NodeSource<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Content> Copy for NodeSource<T> {}

impl<T: Content> NodeSource<T> {
    /// Returns the allocator behind it.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// Runs `body` on the list, unless somebody else is at it.
    fn with_list<R>(&self, body: impl FnOnce(&mut NodeList<T>) -> R) -> Option<R> {
        // SAFETY: the owner outlives the maps, which use this.
        let list = unsafe { self.list.as_ref() };
        if list.is_busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: whoever finds `is_busy` set stays away, so this is the only reference. `body`
        // does not come back here: it takes nodes out or puts them in.
        let result = body(unsafe { &mut *list.free.get() });
        list.is_busy.store(false, Ordering::Release);
        Some(result)
    }

    #[cold]
    #[inline(never)]
    fn allocate_node(&self) -> Option<NonNull<Node<T>>> {
        self.memory.store(Node::new())
    }

    /// # Safety
    ///
    /// The contract of [`NodeAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn deallocate_node(&self, node: NonNull<Node<T>>) {
        // SAFETY: it came from this memory, whether or not it has been in a list since, and the
        // engine gives it back once, with nothing in it.
        unsafe { self.memory.deallocate(node) }
    }
}

// SAFETY: a node comes from the list or from the memory, and is in neither while it is handed out;
// nodes in the list are as `dealloc` got them. The memory is the caller's, whose documentation asks
// that it is nobody else's until it is freed, and a new node in it is initialised. Sources of one
// memory are the same allocator, whichever lists they have: all nodes come from there, and go back
// there in the end; so `is_same` says the truth. It is not type-stable, since nodes that are too
// many go back to the memory; and nothing here looks at nodes without using the map.
unsafe impl<T: Content> NodeAlloc<T> for NodeSource<T> {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        self.with_list(NodeList::pop_front).flatten().or_else(|| self.allocate_node())
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        let keep = |free: &mut NodeList<_>| {
            let has_room = free.len() < KEPT;
            if has_room {
                // SAFETY: the caller gives up a node that is in no tree, and whose data is gone.
                unsafe { free.push_front(node) };
            }
            has_room
        };
        if self.with_list(keep) != Some(true) {
            // SAFETY: this function's contract.
            unsafe { self.deallocate_node(node) }
        }
    }

    fn alloc_many(&self, count: usize, mut take: impl FnMut(NonNull<Node<T>>)) {
        let taken = self.with_list(|free| {
            let kept = core::iter::from_fn(|| free.pop_front()).take(count);
            kept.fold(0, |taken, node| {
                take(node);
                taken + 1
            })
        });
        let missing = count - taken.unwrap_or(0);
        core::iter::from_fn(|| self.allocate_node()).take(missing).for_each(take);
    }

    unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
        self.with_list(|free| {
            while free.len() < KEPT
                && let Some(node) = nodes.pop_front()
            {
                // SAFETY: the caller gives up nodes that are in no tree, and whose data is gone.
                unsafe { free.push_front(node) };
            }
        });
        while let Some(node) = nodes.pop_front() {
            // SAFETY: this function's contract.
            unsafe { self.deallocate_node(node) }
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.list == other.list || self.memory.is_same(&other.memory)
    }
}

/// The contents of a handle, and the nodes that it keeps, which are dropped after them.
pub(crate) struct WithNodes<M, T: Content> {
    inner: M,
    _nodes: KeptNodes<T>,
}

impl<M, T: Content> WithNodes<M, T> {
    /// Puts `inner`, which allocates from `nodes`, and its nodes together.
    pub(crate) fn new(inner: M, nodes: KeptNodes<T>) -> Self {
        Self { inner, _nodes: nodes }
    }
}

impl<M, T: Content> Deref for WithNodes<M, T> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.inner
    }
}

impl<M, T: Content> DerefMut for WithNodes<M, T> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.inner
    }
}
