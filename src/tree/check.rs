//! Checks every invariant of the tree from scratch. O(n log n); for tests, and for kernels that
//! suspect memory corruption.

use super::{Tree, link_ops};
use crate::node::{Content, Node};
use crate::position::Number;

impl<T: Content> Tree<T> {
    /// Checks order, disjointness, gaps, largest gaps, links, colours and counts.
    ///
    /// # Errors
    ///
    /// Says what is wrong first.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        // SAFETY: the tree is borrowed. If its links are damaged, no way of reading it is sound;
        // what can be told apart is reported.
        unsafe {
            let root = &*self.root;
            if !link_ops::parent(root).is_null() {
                return Err("the kept root has a parent");
            }
            if !link_ops::is_black(root) {
                return Err("red root");
            }
            let mut at: *mut Node<T> = self.root;
            while !(*at).left.get().is_null() {
                at = (*at).left.get();
            }
            let (mut last_end, mut len, mut pages, mut black_height) =
                (self.lo, 0, <T::Position>::ZERO, None);
            loop {
                let node = &*at;
                self.check_node(node, last_end)?;
                if node.left.get().is_null() || node.right.get().is_null() {
                    let height = black_nodes_above(node);
                    if *black_height.get_or_insert(height) != height {
                        return Err("black heights differ");
                    }
                }
                last_end = node.end.get();
                if self.is_sentinel(at) {
                    break;
                }
                len += 1;
                pages += node.end.get() - node.start.get();
                at = next(node);
                if at.is_null() {
                    return Err("the sentinel is not last");
                }
            }
            if !next(self.sentinel()).is_null() {
                return Err("the sentinel is not last");
            }
            if len != self.len || pages != self.pages {
                return Err("counts differ");
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The node's links lead to nodes.
    unsafe fn check_node(&self, node: &Node<T>, last_end: T::Position) -> Result<(), &'static str> {
        let (start, end) = (node.start.get(), node.end.get());
        let is_sentinel = core::ptr::eq(node, self.sentinel());
        if start < last_end {
            return Err("entries overlap or are out of order");
        }
        if (start >= end) != is_sentinel {
            return Err("empty entry");
        }
        let usable = self.usable_gap(node);
        if self.free_before(node) != start - last_end
            || !(usable.is_empty() || usable.start == last_end)
            || usable.len() != node.gap.get()
        {
            return Err("gap is wrong");
        }
        // SAFETY: linked, by the contract of this function.
        if !unsafe { self.knows_largest_gap(node) } {
            return Err("largest gap is wrong");
        }
        if node.tree.get() != self.number {
            return Err("node of another tree");
        }
        for child in [node.left.get(), node.right.get()] {
            // SAFETY: linked, by the contract of this function.
            let Some(child) = (unsafe { child.as_ref() }) else { continue };
            if !core::ptr::eq(link_ops::parent(child), node) {
                return Err("child does not know its parent");
            }
            if !link_ops::is_black(node) && !link_ops::is_black(child) {
                return Err("red node with a red child");
            }
        }
        Ok(())
    }
}

/// # Safety
///
/// The node's links lead to nodes.
unsafe fn black_nodes_above<T: Content>(node: &Node<T>) -> usize {
    let mut count = 0;
    let mut at: *const Node<T> = node;
    // SAFETY: linked, by the contract of this function.
    while let Some(node) = unsafe { at.as_ref() } {
        count += usize::from(link_ops::is_black(node));
        at = link_ops::parent(node);
    }
    count
}

/// # Safety
///
/// The node's links lead to nodes.
unsafe fn next<T: Content>(node: &Node<T>) -> *mut Node<T> {
    // SAFETY: linked, by the contract of this function.
    unsafe { super::entries::successor(node) }
}
