//! Nodes that were taken before a change begins.

use core::fmt;
use core::ptr::NonNull;

use super::{Content, DetachedNode, Node, NodeAlloc, NodeList};
use crate::error::Error;
use crate::range::PageRange;

/// Empty nodes for changes to come. Filled before a lock is taken, so that nothing is allocated
/// under it and a change, once begun, cannot run out of memory. Nodes that are left go back on
/// drop.
///
/// `A` is a handle, not the allocator itself, which would move along with this, away from the nodes
/// that it holds:
///
/// ```compile_fail,E0277
/// # use kvma::{FixedPool, VmaNode, node::Preallocated};
/// let pool = FixedPool::<VmaNode, 4>::new();
/// let nodes = Preallocated::new(pool); // must be `&pool`
/// ```
pub struct Preallocated<T: Content, A: NodeAlloc<T>> {
    alloc: A,
    /// Nodes without data, in no tree.
    free: NodeList<T>,
}

impl<T: Content, A: NodeAlloc<T> + Clone> Preallocated<T, A> {
    /// Creates a list of no nodes.
    pub const fn new(alloc: A) -> Self {
        Self { alloc, free: NodeList::new() }
    }
}

impl<T: Content, A: NodeAlloc<T>> Preallocated<T, A> {
    /// Returns the number of nodes.
    pub const fn len(&self) -> usize {
        self.free.len()
    }

    /// Returns `true` if there is no node.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Allocates until there are `count` nodes.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the nodes that came stay.
    #[inline]
    pub fn fill(&mut self, count: usize) -> Result<(), Error> {
        if self.len() >= count { Ok(()) } else { self.fill_up(count) }
    }

    #[inline(never)]
    fn fill_up(&mut self, count: usize) -> Result<(), Error> {
        let Self { alloc, free } = self;
        alloc.alloc_many(count.saturating_sub(free.len()), |node| {
            debug_assert!(node.is_aligned(), "the allocator handed out a misaligned node");
            // SAFETY: valid, and ours alone; if it is not, the allocator has broken its promise.
            unsafe { node.as_ref() }.note_handed_out();
            // SAFETY: the allocator gave it to us alone, and it stays valid while `alloc` lives.
            unsafe { free.push_front(node) };
        });
        if self.len() < count { Err(Error::OutOfMemory) } else { Ok(()) }
    }

    /// Gives nodes back until at most `count` are left.
    pub(crate) fn trim(&mut self, count: usize) {
        if count == 0 {
            return self.give_back();
        }
        while self.len() > count
            && let Some(node) = self.free.pop_front()
        {
            // SAFETY: it came from this allocator, has no data and is in no tree.
            unsafe {
                node.as_ref().note_given_back();
                self.alloc.dealloc(node);
            }
        }
    }

    /// Gives all nodes back.
    #[inline(never)]
    fn give_back(&mut self) {
        if self.is_empty() {
            return;
        }
        if cfg!(debug_assertions) {
            for node in self.free.iter() {
                // SAFETY: nodes in the list are valid.
                unsafe { node.as_ref() }.note_given_back();
            }
        }
        // SAFETY: they came from this allocator, have no data and are in no tree.
        unsafe { self.alloc.dealloc_list(&mut self.free) };
    }

    pub(crate) fn alloc(&self) -> &A {
        &self.alloc
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<FreeNode<T>> {
        self.free.pop_front().map(FreeNode)
    }

    #[inline]
    pub(crate) fn put(&mut self, node: FreeNode<T>) {
        // SAFETY: a free node is in no tree or list.
        unsafe { self.free.push_front(node.0) }
    }
}

impl<T: Content, A: NodeAlloc<T>> Drop for Preallocated<T, A> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<T: Content, A: NodeAlloc<T>> fmt::Debug for Preallocated<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preallocated").field("len", &self.len()).finish()
    }
}

/// A node without data, in no tree and no list. Leaks if it is dropped; it belongs into a
/// [`Preallocated`].
pub(crate) struct FreeNode<T: Content>(NonNull<Node<T>>);

impl<T: Content> FreeNode<T> {
    /// # Safety
    ///
    /// The node is in no tree and no list, its data is gone, and it is the caller's alone.
    pub(crate) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        Self(node)
    }

    pub(crate) fn into_raw(self) -> NonNull<Node<T>> {
        self.0
    }

    pub(crate) fn raw(&self) -> NonNull<Node<T>> {
        self.0
    }

    /// Fills the node without linking it: a part that is split off an entry waits like this to be
    /// dropped.
    pub(crate) fn fill(
        self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
    ) -> DetachedNode<T> {
        // SAFETY: the node is ours alone and holds no data. Its generation stays odd, so readers
        // who still come by do not trust it.
        unsafe {
            let node = self.0.as_ref();
            node.write_begin();
            node.start.set(range.start);
            node.end.set(range.end);
            // Nobody looks for its key, so the kernel is not asked for it: should that panic, the
            // data would be dropped before its flush.
            let hot = node.store(&attrs, 0);
            node.put_data(data);
            node.set_hot_while_detached(hot);
            DetachedNode::from_raw(self.0)
        }
    }
}
