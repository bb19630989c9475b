//! Nodes on their way in, and nodes on their way out.

use super::{Content, Node, NodeAlloc, NodeList};
use crate::error::Error;
use crate::range::Span;
use core::ptr::NonNull;

/// Empty nodes in hand. Filled before a lock is taken, so that nothing is allocated under it and a
/// change, once begun, cannot run out of memory. What is left goes back on drop.
///
/// `A` is a handle, not the allocator itself, which would move along with the reservation, away
/// from the nodes that it holds:
///
/// ```compile_fail,E0277
/// # use kvma::{FixedPool, Preallocated, VmaNode};
/// let pool = FixedPool::<VmaNode, 4>::new();
/// let nodes = Preallocated::new(pool); // `&pool` it must be
/// ```
pub struct Preallocated<T: Content, A: NodeAlloc<T>> {
    alloc: A,
    /// Nodes without data, in no tree.
    spare: NodeList<T>,
}

impl<T: Content, A: NodeAlloc<T> + Clone> Preallocated<T, A> {
    /// No nodes yet.
    pub const fn new(alloc: A) -> Self {
        Preallocated { alloc, spare: NodeList::new() }
    }
}

impl<T: Content, A: NodeAlloc<T>> Preallocated<T, A> {
    /// Nodes in hand.
    pub const fn len(&self) -> usize {
        self.spare.len()
    }

    /// Whether no node is in hand.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Allocates until `count` nodes are in hand. On [`Error::OutOfMemory`] those that came stay.
    pub fn fill(&mut self, count: usize) -> Result<(), Error> {
        while self.len() < count {
            let node = self.alloc.alloc().ok_or(Error::OutOfMemory)?;
            // SAFETY: valid, and ours alone.
            debug_assert!(
                unsafe { node.as_ref() }.is_dead(),
                "the allocator handed out a node in use"
            );
            // SAFETY: the allocator gave it to us alone, and it stays valid while `alloc` lives.
            unsafe { self.spare.push_front(node) };
        }
        Ok(())
    }

    /// Gives nodes back until at most `count` are in hand.
    pub(crate) fn trim(&mut self, count: usize) {
        while self.len() > count
            && let Some(node) = self.spare.pop_front()
        {
            // SAFETY: it came from this allocator, has no data and is in no tree.
            unsafe { self.alloc.dealloc(node) }
        }
    }

    pub(crate) fn alloc(&self) -> &A {
        &self.alloc
    }

    pub(crate) fn take(&mut self) -> Option<FreeNode<T>> {
        self.spare.pop_front().map(FreeNode)
    }

    pub(crate) fn put(&mut self, spare: FreeNode<T>) {
        // SAFETY: a spare node is in no tree or list.
        unsafe { self.spare.push_front(spare.0) }
    }
}

impl<T: Content, A: NodeAlloc<T>> Drop for Preallocated<T, A> {
    fn drop(&mut self) {
        self.trim(0);
    }
}

/// A node without data, in no tree. Leaks if it is dropped; it belongs into a [`Preallocated`].
pub(crate) struct FreeNode<T: Content>(pub(super) NonNull<Node<T>>);

impl<T: Content> FreeNode<T> {
    /// # Safety
    ///
    /// The node is in no tree and no list, its data is gone, and it is the caller's alone.
    pub(crate) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        FreeNode(node)
    }

    pub(crate) fn into_raw(self) -> NonNull<Node<T>> {
        self.0
    }

    pub(crate) fn raw(&self) -> NonNull<Node<T>> {
        self.0
    }

    /// Fills the node without linking it: how a piece that was cut off waits to be dropped.
    pub(crate) fn fill(
        self,
        span: Span<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
    ) -> DetachedNode<T> {
        // SAFETY: the node is ours alone and holds no data. Its generation stays odd, so readers
        // who still come by do not trust it.
        unsafe {
            let node = self.0.as_ref();
            node.open();
            node.start.set(span.start);
            node.end.set(span.end);
            let hot = T::store(&node.words, &attrs, &data);
            node.put_data(data);
            node.set_hot_while_open(hot);
        }
        DetachedNode(self.0)
    }
}

/// A node with data, in no tree. Leaks if it is dropped; it belongs into [`Removed`].
pub(crate) struct DetachedNode<T: Content>(NonNull<Node<T>>);

impl<T: Content> DetachedNode<T> {
    /// # Safety
    ///
    /// The node is in no tree and no list, holds data, and is the caller's alone.
    pub(crate) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        DetachedNode(node)
    }

    /// Takes the data out.
    pub(crate) fn empty(self) -> (FreeNode<T>, T::Data) {
        // SAFETY: ours alone, with data; afterwards it counts as a node without.
        let data = unsafe { self.0.as_ref().take_data() };
        (FreeNode(self.0), data)
    }
}

/// What an operation removed, in the order of removal: dropped, data and all, after the owner's
/// flush has ended and the lock is released.
pub(crate) struct Removed<T: Content, A: NodeAlloc<T>> {
    alloc: A,
    /// Nodes with data, in no tree.
    list: NodeList<T>,
}

/// One removed entry, or a part that was cut off one.
pub(crate) struct RemovedRef<'a, T: Content> {
    pub(crate) start: T::Position,
    pub(crate) end: T::Position,
    pub(crate) attrs: T::Attrs,
    pub(crate) data: &'a T::Data,
}

/// Where an entry was, its attributes, and its data.
type Taken<T> = (Span<<T as Content>::Position>, <T as Content>::Attrs, <T as Content>::Data);

impl<T: Content, A: NodeAlloc<T>> Removed<T, A> {
    pub(crate) const fn new(alloc: A) -> Self {
        Removed { alloc, list: NodeList::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn push(&mut self, loose: DetachedNode<T>) {
        // SAFETY: a loose node is in no tree or list.
        unsafe { self.list.push_back(loose.0) }
    }

    /// Takes the first one out again, its node into `nodes`.
    pub(crate) fn pop(&mut self, nodes: &mut Preallocated<T, A>) -> Option<Taken<T>> {
        let node = self.list.pop_front()?;
        // SAFETY: nodes in the list are valid and ours alone.
        let (span, attrs) = unsafe {
            let node = node.as_ref();
            (Span::new(node.start.get(), node.end.get()), node.attrs())
        };
        let (spare, data) = DetachedNode(node).empty();
        nodes.put(spare);
        Some((span, attrs, data))
    }

    /// What was gathered after the first `skip`, in order.
    pub(crate) fn iter_from(&self, skip: usize) -> impl Iterator<Item = RemovedRef<'_, T>> {
        self.list.iter().skip(skip).map(|node| {
            // SAFETY: nodes in the list hold data, and nobody changes them while it is borrowed.
            unsafe {
                let node = &*node.as_ptr();
                RemovedRef {
                    start: node.start.get(),
                    end: node.end.get(),
                    attrs: node.attrs(),
                    data: node.data(),
                }
            }
        })
    }
}

impl<T: Content, A: NodeAlloc<T>> Removed<T, A> {
    /// Drops what was gathered; up to `keep` nodes go to `nodes`, the others back.
    pub(crate) fn drop_all(&mut self, nodes: &mut Preallocated<T, A>, keep: usize) {
        while let Some(node) = self.list.pop_front() {
            let (spare, data) = DetachedNode(node).empty();
            drop(data);
            if nodes.len() < keep {
                nodes.put(spare);
            } else {
                // SAFETY: it came from this allocator, its data is gone and it is in no tree.
                unsafe { self.alloc.dealloc(spare.0) }
            }
        }
    }
}

impl<T: Content, A: NodeAlloc<T>> Drop for Removed<T, A> {
    fn drop(&mut self) {
        while let Some(node) = self.list.pop_front() {
            let (spare, data) = DetachedNode(node).empty();
            drop(data);
            // SAFETY: it came from this allocator, its data is gone and it is in no tree.
            unsafe { self.alloc.dealloc(spare.0) }
        }
    }
}
