//! The free nodes of an allocator, which lie in a list behind its lock.

use core::ptr::NonNull;

use super::{Content, Node, NodeList};
use crate::sync::{Locked, RawLock};

/// The free nodes of an allocator, the number of those that it has handed out, and what it knows
/// of their memory.
pub(super) struct FreeNodes<T: Content, M = ()> {
    list: NodeList<T>,
    in_use: usize,
    memory: M,
}

impl<T: Content, M> FreeNodes<T, M> {
    /// Creates a list of no nodes.
    pub(super) const fn new(memory: M) -> Self {
        Self { list: NodeList::new(), in_use: 0, memory }
    }

    /// Returns the number of nodes handed out and not yet returned.
    pub(super) const fn in_use(&self) -> usize {
        self.in_use
    }

    /// Returns the number of nodes in the list.
    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    /// Hands a node out.
    pub(super) fn pop(&mut self) -> Option<NonNull<Node<T>>> {
        let node = self.list.pop_front()?;
        self.in_use += 1;
        Some(node)
    }

    /// Returns what the allocator knows of the nodes' memory.
    #[cfg(any(feature = "alloc", loom))]
    pub(super) const fn memory(&mut self) -> &mut M {
        &mut self.memory
    }

    /// Takes out a node that the allocator is to give up, and that nobody has.
    #[cfg(any(feature = "alloc", loom))]
    pub(super) fn withdraw(&mut self) -> Option<NonNull<Node<T>>> {
        self.list.pop_front()
    }
}

impl<T: Content, M, L: RawLock> Locked<FreeNodes<T, M>, L> {
    /// Makes nodes of fresh memory, adds them behind the others, and lets `note` note the memory.
    /// O(`count`), of which the lock is held for O(1).
    ///
    /// # Safety
    ///
    /// `base` is aligned and the first of `count` places for nodes that are the allocator's alone,
    /// and valid as long as it.
    pub(super) unsafe fn take_in(
        &self,
        base: NonNull<Node<T>>,
        count: usize,
        note: impl FnOnce(&mut M),
    ) {
        let mut fresh = NodeList::new();
        for index in 0..count {
            // SAFETY: each place is valid and used once, by the contract of this method.
            unsafe {
                let node = base.add(index);
                node.write(Node::new());
                fresh.push_back(node);
            }
        }
        let mut free = self.lock();
        free.list.append(&mut fresh);
        note(&mut free.memory);
    }

    /// Hands out up to `count` nodes of the list in one hold of the lock, and then what `alloc`
    /// gives, until there are `count` or it has none: the work of
    /// [`NodeAlloc::alloc_many`](super::NodeAlloc::alloc_many).
    pub(super) fn hand_out(
        &self,
        count: usize,
        alloc: impl Fn() -> Option<NonNull<Node<T>>>,
        mut take: impl FnMut(NonNull<Node<T>>),
    ) {
        let mut left = count;
        let mut free = self.lock();
        while left > 0
            && let Some(node) = free.list.pop_front()
        {
            left -= 1;
            take(node);
        }
        free.in_use += count - left;
        drop(free);
        core::iter::from_fn(alloc).take(left).for_each(take);
    }

    /// Takes a node back: the work of [`NodeAlloc::dealloc`](super::NodeAlloc::dealloc).
    ///
    /// # Safety
    ///
    /// It was handed out, and is in no tree and no list.
    pub(super) unsafe fn take_back(&self, node: NonNull<Node<T>>) {
        let mut free = self.lock();
        // SAFETY: by the contract of this method, and valid as long as the allocator.
        unsafe { free.list.push_front(node) };
        free.in_use -= 1;
    }

    /// Takes all nodes of a list back in one hold of the lock: the work of
    /// [`NodeAlloc::dealloc_list`](super::NodeAlloc::dealloc_list).
    ///
    /// # Safety
    ///
    /// They were handed out, and are in no tree.
    pub(super) unsafe fn take_back_all(&self, nodes: &mut NodeList<T>) {
        let mut free = self.lock();
        free.in_use -= nodes.len();
        free.list.prepend(nodes);
    }
}
