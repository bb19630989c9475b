//! The gap that has grown last, which nodes further up learn of later, or never.
//!
//! Each node knows the largest gap of its subtree. A gap that shrinks is propagated at once, as far
//! up as it was the largest. One that grows would be propagated to the root if it is larger than
//! all others, as that of `munmap` often is; and most such gaps are filled by what comes next: the
//! next `mmap` of the same size, or the mapping in whose place others have gone. So the tree only
//! notes the node, and propagates when the next gap grows elsewhere. Until then searches
//! ([`gap`](super::gap)) look at this gap beside the tree.
//!
//! So the largest gap that a node knows of lies between what it would be without the noted node's
//! gap and what it is.

use core::ptr;

use super::{Tree, link_ops};
use crate::node::{Content, Node};

impl<T: Content> Tree<T> {
    /// Sets the gap of a linked node, and sees to it that the largest gaps are right.
    pub(super) fn set_gap(&self, node: &Node<T>, gap: T::Position) {
        let former = node.gap.get();
        if gap != former {
            node.gap.set(gap);
            self.gap_changed(node, former);
        }
    }

    /// Sees to it that the largest gaps are right after the gap of a linked node was set, which was
    /// `former`.
    #[inline(never)]
    pub(super) fn gap_changed(&self, node: &Node<T>, former: T::Position) {
        let (gap, max) = (node.gap.get(), node.max_gap.get());
        if gap > max {
            self.note_grown(node);
        } else if former >= max && gap < max {
            // SAFETY: linked.
            unsafe { link_ops::propagate_shrunk(node) };
        }
    }

    /// Notes that a node's gap has grown beyond the largest that it knows of.
    fn note_grown(&self, node: &Node<T>) {
        let node = ptr::from_ref(node).cast_mut();
        let before = self.grown.get();
        if before == node {
            return;
        }
        // SAFETY: null, or linked, by the invariant of `grown`.
        unsafe { link_ops::propagate_grown(before) };
        self.grown.set(node);
    }

    /// Forgets a node that is about to be unlinked.
    #[inline]
    pub(super) fn forget_grown(&self, node: *mut Node<T>) {
        if self.grown.get() == node {
            self.grown.set(ptr::null_mut());
        }
    }

    /// Returns `true` if the largest gap that a node knows of fits with what its children know.
    ///
    /// # Safety
    ///
    /// The node's links lead to nodes.
    pub(super) unsafe fn knows_largest_gap(&self, node: &Node<T>) -> bool {
        let max = node.max_gap.get();
        if !self.grown().is_some_and(|grown| ptr::eq(grown, node)) {
            // SAFETY: by the contract of this function.
            return max == unsafe { link_ops::computed_max(node) };
        }
        [node.left.get(), node.right.get()].into_iter().all(|child| {
            // SAFETY: by the contract of this function.
            unsafe { child.as_ref() }.is_none_or(|child| child.max_gap.get() <= max)
        })
    }

    /// Returns the node whose gap is larger than the nodes further up know, if there is one.
    #[inline]
    pub(super) fn grown(&self) -> Option<&Node<T>> {
        // SAFETY: null, or linked, by the invariant of `grown`.
        unsafe { self.grown.get().as_ref() }.filter(|node| node.gap.get() > node.max_gap.get())
    }
}
