//! The nodes of one change: free ones to come, and removed ones that wait to be dropped.

use core::mem::needs_drop;
use core::ptr::NonNull;

use super::{Content, FreeNode, Node, NodeAlloc, NodeList, Preallocated};
use crate::position::Number;
use crate::range::PageRange;

/// A node that was removed, in no tree and no list: with data, unless it was a claim. Leaks if it
/// is dropped; it belongs into a [`Removed`].
pub(crate) struct DetachedNode<T: Content>(NonNull<Node<T>>);

impl<T: Content> DetachedNode<T> {
    /// # Safety
    ///
    /// The node is in no tree and no list, holds data unless its hot bits say that it does not, and
    /// is the caller's alone.
    pub(crate) unsafe fn from_raw(node: NonNull<Node<T>>) -> Self {
        Self(node)
    }

    /// Takes the data out, if there is any.
    #[inline]
    pub(crate) fn empty(self) -> (FreeNode<T>, Option<T::Data>) {
        // SAFETY: ours alone, and it says itself whether it holds data; afterwards it counts as a
        // node without.
        unsafe {
            let node = self.0.as_ref();
            let data = node.has_data().then(|| node.take_data());
            (FreeNode::from_raw(self.0), data)
        }
    }
}

/// Removed entries in the order of removal. Leaks what is in it when it is dropped; it belongs into
/// a [`NodeStore`].
pub(crate) struct Removed<T: Content> {
    /// Nodes in no tree, with data unless they were claims.
    list: NodeList<T>,
}

/// A removed entry, or a part that was split off one.
pub(crate) struct RemovedRef<'a, T: Content> {
    pub(crate) range: PageRange<T::Position>,
    pub(crate) attrs: T::Attrs,
    /// `None` of a claim.
    pub(crate) data: Option<&'a T::Data>,
}

/// A removed entry, out of its node.
pub(crate) struct RemovedEntry<T: Content> {
    pub(crate) range: PageRange<T::Position>,
    pub(crate) attrs: T::Attrs,
    /// `None` of a claim.
    pub(crate) data: Option<T::Data>,
}

impl<T: Content> Removed<T> {
    pub(crate) const fn new() -> Self {
        Self { list: NodeList::new() }
    }

    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, node: DetachedNode<T>) {
        // SAFETY: a detached node is in no tree or list.
        unsafe { self.list.push_back(node.0) }
    }

    /// Adds the entry, if there is one.
    #[inline]
    pub(crate) fn extend(&mut self, node: Option<DetachedNode<T>>) {
        if let Some(node) = node {
            self.push(node);
        }
    }

    /// Takes the first entry out of the list and of its node.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(FreeNode<T>, RemovedEntry<T>)> {
        let node = self.list.pop_front()?;
        // SAFETY: nodes in the list are valid and ours alone.
        let (range, attrs) = unsafe {
            let node = node.as_ref();
            (PageRange::new(node.start.get(), node.end.get()), node.attrs())
        };
        let (free, data) = DetachedNode(node).empty();
        Some((free, RemovedEntry { range, attrs, data }))
    }

    /// Iterates over the entries after the first `skip`, in order.
    pub(crate) fn iter_from(&self, skip: usize) -> impl Iterator<Item = RemovedRef<'_, T>> {
        self.list.iter().skip(skip).map(|node| {
            // SAFETY: nodes in the list hold data if they say so, and nobody changes them while it
            // is borrowed.
            unsafe {
                let node = &*node.as_ptr();
                RemovedRef {
                    range: PageRange::new(node.start.get(), node.end.get()),
                    attrs: node.attrs(),
                    data: node.has_data().then(|| node.data()),
                }
            }
        })
    }

    /// Iterates over the data of the entries after the first `skip`, in order, each with its first
    /// page.
    #[cfg(feature = "guest")]
    pub(crate) fn data_from(
        &mut self,
        skip: usize,
    ) -> impl Iterator<Item = (T::Position, &mut T::Data)> {
        self.list.iter().skip(skip).filter_map(|node| {
            // SAFETY: nodes in the list hold data if they say so. The list is borrowed mutably, and
            // gives out each of them once.
            unsafe {
                let node = &*node.as_ptr();
                node.has_data().then(|| (node.start.get(), node.data_mut()))
            }
        })
    }

    /// Forgets the entries: neither their data nor their nodes are ever given back.
    pub(crate) fn leak(&mut self) {
        self.list = NodeList::new();
    }
}

/// The nodes of one change. Dropping it drops the removed entries and the leftovers, and gives all
/// nodes back.
pub(crate) struct NodeStore<T: Content, A: NodeAlloc<T>> {
    /// Free nodes, for the entries that the change adds.
    pub(crate) free: Preallocated<T, A>,
    /// The entries that the change removes.
    pub(crate) removed: Removed<T>,
    /// Data that is to be dropped with the store: of entries that were merged into others, and what
    /// never became an entry.
    leftovers: Removed<T>,
}

impl<T: Content, A: NodeAlloc<T> + Clone> NodeStore<T, A> {
    pub(crate) const fn new(alloc: A) -> Self {
        Self::from_preallocated(Preallocated::new(alloc))
    }

    pub(crate) const fn from_preallocated(free: Preallocated<T, A>) -> Self {
        Self { free, removed: Removed::new(), leftovers: Removed::new() }
    }
}

impl<T: Content, A: NodeAlloc<T>> NodeStore<T, A> {
    /// Keeps the node of an entry that was merged into another: its data is dropped with the store.
    #[inline]
    pub(crate) fn put_merged(&mut self, node: DetachedNode<T>) {
        if needs_drop::<T::Data>() {
            self.leftovers.push(node);
        } else {
            self.free.put(node.empty().0);
        }
    }

    /// Keeps data that became part of another entry before it had a node, for which one is taken.
    #[inline]
    pub(crate) fn put_unused(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
    ) {
        if needs_drop::<T::Data>()
            && let Some(node) = self.free.take()
        {
            self.leftovers.push(node.fill(range, attrs, data));
        }
    }

    /// Keeps data that did not become an entry, in a node of its own: a fresh one if there is
    /// memory, so that preallocated ones stay for what they were meant for. Without any node it is
    /// dropped here, under the lock.
    #[cold]
    pub(crate) fn put_rejected(&mut self, data: T::Data, attrs: T::Attrs) {
        let _ = self.free.fill(self.free.len().saturating_add(1));
        self.put_unused(PageRange::new(Number::ZERO, Number::ZERO), attrs, data);
    }

    /// Drops leftovers, and gives nodes back until at most `keep` are left. Removed entries stay.
    pub(crate) fn trim(&mut self, keep: usize) {
        self.drop_leftovers();
        self.free.trim(keep);
    }

    fn drop_removed(&mut self) {
        while let Some((node, entry)) = self.removed.pop() {
            drop(entry);
            self.free.put(node);
        }
    }

    #[inline]
    fn drop_leftovers(&mut self) {
        // Without data to drop there are none.
        if needs_drop::<T::Data>() && self.leftovers.len() > 0 {
            while let Some((node, entry)) = self.leftovers.pop() {
                drop(entry);
                self.free.put(node);
            }
        }
    }
}

impl<T: Content, A: NodeAlloc<T>> Drop for NodeStore<T, A> {
    #[inline]
    fn drop(&mut self) {
        // Whoever owed something has paid: there is hardly ever anything left.
        if self.removed.len() > 0 {
            self.drop_removed();
        }
        self.drop_leftovers();
    }
}
