//! The memory of a space: its caller's allocator, and a few nodes that are kept from one call to
//! the next, so that not every call goes to the allocator.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use engine::VmaNode;
use engine::node::{Node, NodeAlloc, NodeList};

use super::page_info::Tag;
use crate::alloc::Memory;

/// The most nodes that one operation on a range needs, and that are kept.
pub(super) const NODES_PER_OPERATION: usize = 3;

struct Kept {
    /// A call is at the list. Calls that change a space come one at a time, if its user keeps to
    /// that; one that does not goes to the allocator.
    is_busy: AtomicBool,
    free: UnsafeCell<NodeList<VmaNode<Tag>>>,
}

/// The owner of a space's memory. It has to outlive the maps of the space.
pub(super) struct SpaceMemory {
    handle: SpaceAlloc,
}

impl SpaceMemory {
    /// Takes memory for the list. `None` if there is none.
    pub(super) fn new(memory: Memory) -> Option<Self> {
        let free = UnsafeCell::new(NodeList::new());
        let kept = memory.store(Kept { is_busy: AtomicBool::new(false), free })?;
        Some(Self { handle: SpaceAlloc { memory, kept } })
    }

    /// Returns the handle that maps allocate with.
    pub(super) fn alloc(&self) -> SpaceAlloc {
        self.handle
    }
}

impl Drop for SpaceMemory {
    fn drop(&mut self) {
        let SpaceAlloc { memory, kept } = self.handle;
        // SAFETY: the list is valid until the end of this function, and nobody else uses it: the
        // maps that had handles are gone.
        while let Some(node) = unsafe { &mut *kept.as_ref().free.get() }.pop_front() {
            // SAFETY: it came from `alloc` of the same memory, and is in nothing any more.
            unsafe { memory.dealloc(node) }
        }
        // SAFETY: it came from `store` of this memory.
        unsafe { memory.drop_stored(kept) }
    }
}

/// The allocator of a space's nodes. Valid as long as the [`SpaceMemory`] that it is of.
#[derive(Clone, Copy)]
pub(crate) struct SpaceAlloc {
    memory: Memory,
    kept: NonNull<Kept>,
}

impl SpaceAlloc {
    /// Runs `body` on the list, unless somebody else is at it.
    fn with_kept<R>(&self, body: impl FnOnce(&mut NodeList<VmaNode<Tag>>) -> R) -> Option<R> {
        // SAFETY: the owner outlives the maps, which use this.
        let kept = unsafe { self.kept.as_ref() };
        if kept.is_busy.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: whoever finds `is_busy` set stays away, so this is the only reference. `body`
        // does not come back here: it takes a node out or puts one in.
        let result = body(unsafe { &mut *kept.free.get() });
        kept.is_busy.store(false, Ordering::Release);
        Some(result)
    }
}

// SAFETY: a node comes from the list or from the memory, and is in neither while it is handed out;
// nodes in the list are as `dealloc` got them. Handles with the same list have the same memory. It
// is not type-stable, since nodes that are too many go back to the memory.
unsafe impl NodeAlloc<VmaNode<Tag>> for SpaceAlloc {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<VmaNode<Tag>>>> {
        self.with_kept(NodeList::pop_front).flatten().or_else(|| self.memory.alloc())
    }

    unsafe fn dealloc(&self, node: NonNull<Node<VmaNode<Tag>>>) {
        let keep = |free: &mut NodeList<_>| {
            let has_room = free.len() < NODES_PER_OPERATION;
            if has_room {
                // SAFETY: the caller gives up a node that is in no tree, and whose data is gone.
                unsafe { free.push_front(node) };
            }
            has_room
        };
        if self.with_kept(keep) != Some(true) {
            // SAFETY: it came from this memory, whether or not it has been in the list since.
            unsafe { self.memory.dealloc(node) }
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.kept == other.kept
    }
}
