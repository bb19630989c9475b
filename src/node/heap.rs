//! Nodes straight from the global allocator, and straight back.

extern crate alloc;

use super::{Content, Node, NodeAlloc};
use alloc::alloc::{Layout, alloc as global_alloc};
use alloc::boxed::Box;
use core::ptr::NonNull;

/// One heap block a node, given back at once. What a [`RangeMap`](crate::RangeMap) uses unless told
/// otherwise.
///
/// It is not [`TypeStable`](super::TypeStable), so it serves no space that is looked up without the
/// lock: [`BoxAlloc`](super::BoxAlloc) does. Running out of memory is an answer, not an abort.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

// SAFETY: a block of the heap is the receiver's alone, valid until it is given back, and
// initialised here. All handles are the one global allocator.
unsafe impl<T: Content> NodeAlloc<T> for Heap {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        // SAFETY: a node is not zero-sized.
        let memory = unsafe { global_alloc(Layout::new::<Node<T>>()) }.cast::<Node<T>>();
        let node = NonNull::new(memory)?;
        // SAFETY: fresh memory of the right layout.
        unsafe { node.write(Node::new()) };
        Some(node)
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: it came from the global allocator with the layout of a box of its type.
        drop(unsafe { Box::from_raw(node.as_ptr()) })
    }
}
