//! A list of nodes that are in no tree, linked through the field that readers never look at. What
//! an allocator keeps its free nodes in.

use super::{Content, Node};
use core::ptr::{self, NonNull};

/// Nodes in no tree, first in, first out, all O(1) and without memory of its own: what a
/// [`NodeAlloc`](super::NodeAlloc) keeps its free nodes in. Does not own: whoever holds the list
/// says what becomes of its nodes.
pub struct NodeList<T: Content> {
    head: *mut Node<T>,
    tail: *mut Node<T>,
    len: usize,
}

// SAFETY: a list is a set of nodes that nobody else uses; the data in them moves along.
unsafe impl<T: Content> Send for NodeList<T> where T::Data: Send {}
// SAFETY: a shared list can only be looked through, and what it gives out is `&T::Data` at most.
unsafe impl<T: Content> Sync for NodeList<T> where T::Data: Sync {}

impl<T: Content> NodeList<T> {
    /// No nodes.
    pub const fn new() -> Self {
        NodeList { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// Nodes in the list.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the list has no node.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a node at the end.
    ///
    /// # Safety
    ///
    /// The node is valid while it is in the list, and in no other list or tree.
    pub unsafe fn push_back(&mut self, node: NonNull<Node<T>>) {
        let node = node.as_ptr();
        // SAFETY: valid by the contract of this method, as is the tail that came the same way.
        unsafe {
            (*node).set_next_in_list(ptr::null_mut());
            if self.tail.is_null() {
                self.head = node;
            } else {
                (*self.tail).set_next_in_list(node);
            }
        }
        self.tail = node;
        self.len += 1;
    }

    /// Adds a node at the first_batch.
    ///
    /// # Safety
    ///
    /// As for [`push_back`](Self::push_back).
    pub unsafe fn push_front(&mut self, node: NonNull<Node<T>>) {
        // SAFETY: valid by the contract of this method.
        unsafe { node.as_ref().set_next_in_list(self.head) };
        self.head = node.as_ptr();
        if self.tail.is_null() {
            self.tail = self.head;
        }
        self.len += 1;
    }

    /// Takes the first node out.
    pub fn pop_front(&mut self) -> Option<NonNull<Node<T>>> {
        let node = NonNull::new(self.head)?;
        // SAFETY: nodes in the list are valid.
        self.head = unsafe { node.as_ref() }.next_in_list();
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        self.len -= 1;
        Some(node)
    }

    /// The nodes in order, without taking them out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = NonNull<Node<T>>> + '_ {
        let mut at = self.head;
        core::iter::from_fn(move || {
            let node = NonNull::new(at)?;
            // SAFETY: nodes in the list are valid while it is borrowed.
            at = unsafe { node.as_ref() }.next_in_list();
            Some(node)
        })
    }
}

impl<T: Content> Default for NodeList<T> {
    fn default() -> Self {
        NodeList::new()
    }
}
