//! A list of nodes that are in no tree, linked through the field that readers never look at.

use core::fmt;
use core::ptr::{self, NonNull};

use super::{Content, Node};

/// A list of nodes in no tree, first in, first out, all O(1) and without memory of its own: made
/// for a [`NodeAlloc`](super::NodeAlloc) to keep its free nodes in. It does not own them: whoever
/// holds the list says what becomes of its nodes.
///
/// ```
/// use std::ptr::NonNull;
/// use std::sync::Mutex;
///
/// use kvma::node::{Content, Node, NodeList};
/// use kvma::{Error, NodeAlloc, PageSize, VmMap, VmaNode};
///
/// /// Hands out the nodes of one chunk of memory.
/// struct Chunk<T: Content>(Mutex<NodeList<T>>);
///
/// impl<T: Content> Chunk<T> {
///     fn new(nodes: &'static mut [Node<T>]) -> Self {
///         let mut free = NodeList::new();
///         for node in nodes {
///             // SAFETY: valid for ever, and in nothing else.
///             unsafe { free.push_back(NonNull::from(node)) };
///         }
///         Self(Mutex::new(free))
///     }
/// }
///
/// // SAFETY: a node is in the list or handed out, and its memory stays a node.
/// unsafe impl<T: Content> NodeAlloc<T> for Chunk<T> {
///     const TYPE_STABLE: bool = true;
///
///     fn alloc(&self) -> Option<NonNull<Node<T>>> {
///         self.0.lock().unwrap().pop_front()
///     }
///
///     unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
///         // SAFETY: it came from the list, and the caller gives it up.
///         unsafe { self.0.lock().unwrap().push_front(node) };
///     }
///
///     fn is_same(&self, other: &Self) -> bool {
///         std::ptr::eq(self, other)
///     }
/// }
///
/// let nodes: Vec<_> = (0..8).map(|_| Node::<VmaNode>::new()).collect();
/// let chunk = Chunk::new(nodes.leak());
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &chunk)?;
/// assert_eq!(chunk.0.lock().unwrap().len(), 7);
/// # drop(map);
/// # Ok::<(), Error>(())
/// ```
pub struct NodeList<T: Content> {
    head: *mut Node<T>,
    tail: *mut Node<T>,
    len: usize,
}

// SAFETY: a list is a set of nodes that nobody else uses; the data in them moves along.
unsafe impl<T: Content> Send for NodeList<T> where T::Data: Send {}
// SAFETY: a shared list can only be looked through, and gives out `&T::Data` at most.
unsafe impl<T: Content> Sync for NodeList<T> where T::Data: Sync {}

impl<T: Content> NodeList<T> {
    /// Creates an empty list.
    pub const fn new() -> Self {
        Self { head: ptr::null_mut(), tail: ptr::null_mut(), len: 0 }
    }

    /// Returns the number of nodes in the list.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` if the list has no node.
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
        // SAFETY: the node is valid by the contract of this method, as is the tail, which came the
        // same way and is in the list.
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

    /// Adds a node at the front.
    ///
    /// # Safety
    ///
    /// Those of [`push_back`](Self::push_back).
    pub unsafe fn push_front(&mut self, node: NonNull<Node<T>>) {
        // SAFETY: the node is valid by the contract of this method.
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

    /// Moves all nodes of `other` to the end.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if other.head.is_null() {
            return;
        }
        match NonNull::new(self.tail) {
            // SAFETY: the tail is in the list, so it is valid.
            Some(tail) => unsafe { tail.as_ref() }.set_next_in_list(other.head),
            None => self.head = other.head,
        }
        self.tail = other.tail;
        self.len += other.len;
        *other = Self::new();
    }

    /// Moves all nodes of `other` to the front.
    pub(crate) fn prepend(&mut self, other: &mut Self) {
        other.append(self);
        core::mem::swap(self, other);
    }

    /// Iterates over the nodes in order, without taking them out.
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
        Self::new()
    }
}

impl<T: Content> fmt::Debug for NodeList<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeList").field("len", &self.len).finish()
    }
}
