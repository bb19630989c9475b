//! Nodes from the global allocator.

extern crate alloc;

use super::{Content, Node, NodeAlloc, NodeList, TypeStable};
use crate::sync::SpinLock;
use alloc::alloc::{Layout, alloc as global_alloc};
use alloc::boxed::Box;
use core::ptr::NonNull;

/// One heap block a node. Share it as `Arc<BoxAlloc<_>>` or `&BoxAlloc<_>`.
///
/// Freed nodes stay on a list for the next call, and their memory goes back when the allocator is
/// dropped: that keeps them type-stable. Running out of memory is an answer, not an abort.
pub struct BoxAlloc<T: Content> {
    state: SpinLock<State<T>>,
}

struct State<T: Content> {
    free: NodeList<T>,
    in_use: usize,
}

// SAFETY: the state is a lock, and the free nodes in it hold no data.
unsafe impl<T: Content> Sync for BoxAlloc<T> {}
// SAFETY: as above.
unsafe impl<T: Content> Send for BoxAlloc<T> {}

impl<T: Content> BoxAlloc<T> {
    /// An allocator that has taken nothing from the heap yet.
    pub fn new() -> Self {
        BoxAlloc { state: SpinLock::new(State { free: NodeList::new(), in_use: 0 }) }
    }

    /// Nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.state.with(|state| state.in_use)
    }
}

impl<T: Content> Default for BoxAlloc<T> {
    fn default() -> Self {
        BoxAlloc::new()
    }
}

// SAFETY: a node is either out or in `free`; it is initialised once, when the heap gives it.
unsafe impl<T: Content> NodeAlloc<T> for BoxAlloc<T> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        let recycled = self.state.with(|state| {
            state.in_use += 1;
            state.free.pop_front()
        });
        if recycled.is_some() {
            return recycled;
        }
        // SAFETY: a node is not zero-sized.
        let memory = unsafe { global_alloc(Layout::new::<Node<T>>()) }.cast::<Node<T>>();
        let Some(node) = NonNull::new(memory) else {
            self.state.with(|state| state.in_use -= 1);
            return None;
        };
        // SAFETY: fresh memory of the right layout.
        unsafe { node.write(Node::new()) };
        Some(node)
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        self.state.with(|state| {
            // SAFETY: the caller gives up a node of ours that is in no tree.
            unsafe { state.free.push_front(node) };
            state.in_use -= 1;
        })
    }
}

// SAFETY: freed nodes stay nodes on the list until the allocator is dropped.
unsafe impl<T: Content> TypeStable<T> for BoxAlloc<T> {}

impl<T: Content> Drop for BoxAlloc<T> {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        while let Some(node) = state.free.pop_front() {
            // SAFETY: it came from the global allocator with the layout of a box of its type, and
            // with the last handle the last reader is gone.
            drop(unsafe { Box::from_raw(node.as_ptr()) })
        }
    }
}
