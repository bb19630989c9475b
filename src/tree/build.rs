//! Building a balanced tree from entries that come in order, in O(n) for all of them.
//!
//! Inserting them one by one costs a descent, a rebalancing and a way up to the root for each. Here
//! they are listed first, and linked when the last one has come: each node then has as many entries
//! on its left as on its right, or one more. So all paths are equally long but for the last level,
//! and with that level red and all others black the tree is a red-black one:
//!
//! ```text
//!   6 entries           d                black
//!                    /     \
//!                   b       f            black: every path has two black nodes
//!                 /   \    /
//!                a     c  e              red: the level that is not full
//! ```
//!
//! # Readers without the lock
//!
//! A tree that is filled has been empty. Readers may begin at its only node, the sentinel: those
//! come by entries that are linked already, each complete with all that hangs on it, or by none,
//! and no miss is believed before the change has ended. A reader of another tree may come by nodes
//! which have been in that tree before: it finds the wrong tree's number in them, or a generation
//! that is odd, and links that lead to nodes or nowhere, as always.

use core::ptr::{self, NonNull};

use super::Tree;
use super::link_ops::{self, Handle};
use crate::node::{Content, FreeNode, Node, NodeList};
use crate::range::PageRange;

/// No tree is higher: a node has more than two bytes.
const MAX_HEIGHT: usize = usize::BITS as usize;

/// Fills an empty tree with entries in ascending order. The tree is complete when this is dropped.
pub(crate) struct Filling<'t, T: Content> {
    tree: &'t mut Tree<T>,
    list: NodeList<T>,
    /// The page behind the last entry.
    end: T::Position,
}

impl<'t, T: Content> Filling<'t, T> {
    pub(super) fn new(tree: &'t mut Tree<T>) -> Self {
        debug_assert!(tree.len == 0, "only an empty tree is filled");
        let end = tree.lo;
        Self { tree, list: NodeList::new(), end }
    }

    /// Adds an entry above all those added before. O(1).
    pub(crate) fn push(
        &mut self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
    ) {
        debug_assert!(!range.is_empty() && self.end <= range.start);
        let gap = range.start - self.end;
        let key = Node::<T>::key_of(&data);
        let new = self.tree.init(free, range, gap, attrs, Some(data), key);
        // SAFETY: the node was free: it is in no tree or list.
        unsafe { self.list.push_back(new) };
        self.end = range.end;
        self.tree.pages += range.len();
    }
}

impl<T: Content> Drop for Filling<'_, T> {
    /// Links the entries; also after a panic in the kernel's code that says what comes next.
    fn drop(&mut self) {
        if self.list.is_empty() {
            return;
        }
        let tree = &mut *self.tree;
        tree.len = self.list.len();
        let sentinel = tree.sentinel();
        // The sentinel keeps no guard gap.
        sentinel.gap.set(sentinel.start.get() - self.end);
        tree.rb.fast_clear();
        // SAFETY: the tree was empty: the sentinel was its only node, and is in no tree now. The
        // other nodes in the list were free.
        unsafe {
            self.list.push_back(tree.sentinel);
            let root = link_in_order(&mut self.list);
            // The library's tree takes the root for its only node, and finds the others by their
            // links, which are all that it knows of nodes.
            let (left, right, max) = (root.left.get(), root.right.get(), root.max_gap.get());
            tree.rb.cursor_mut().insert_before(Handle(NonNull::from(root)));
            let _ = tree.rb.cursor_from_ptr(root); // nothing stays noted, see `link_ops`
            root.left.set(left);
            root.right.set(right);
            root.max_gap.set(max);
            tree.root = ptr::from_ref(root).cast_mut();
        }
    }
}

/// A node whose subtree is being linked.
struct Open<T: Content> {
    /// Null until the left subtree is complete.
    node: *mut Node<T>,
    /// The number of nodes in the right subtree.
    right: usize,
}

/// Links all nodes of the list, which is in order and not empty, to a balanced tree. Returns its
/// root, whose parent and colour are left to the caller. O(n), without recursion.
///
/// # Safety
///
/// The nodes are valid for as long as the result is used, and the caller's alone.
unsafe fn link_in_order<'n, T: Content>(list: &mut NodeList<T>) -> &'n Node<T> {
    let mut count = list.len();
    // The levels that are full. Nodes below them are red.
    let black_levels = count.saturating_add(1).checked_ilog2().unwrap_or(0) as usize;
    // The way from the root to the subtree whose turn it is, which has `count` nodes.
    let mut open = [const { Open { node: ptr::null_mut(), right: 0 } }; MAX_HEIGHT];
    let mut depth = 0;
    loop {
        while count > 0 {
            let left = count / 2;
            // Always below: the remainder shows it to the compiler, here and below.
            open[depth % MAX_HEIGHT] = Open { node: ptr::null_mut(), right: count - left - 1 };
            depth += 1;
            count = left;
        }
        // The subtree without nodes that this has come to is complete, and so may be those that end
        // with it.
        let mut done: *mut Node<T> = ptr::null_mut();
        count = loop {
            let level = &mut open[depth.wrapping_sub(1) % MAX_HEIGHT];
            // SAFETY: nodes of the list, valid by the contract of this function.
            unsafe {
                let is_left = level.node.is_null();
                if is_left && let Some(next) = list.pop_front() {
                    level.node = next.as_ptr();
                }
                let node = &*level.node;
                let side = if is_left { &node.left } else { &node.right };
                side.set(done);
                if let Some(child) = done.as_ref() {
                    link_ops::set_parent(child, level.node, depth < black_levels);
                }
                if is_left {
                    break level.right;
                }
                node.max_gap.set(link_ops::computed_max(node));
                if depth == 1 {
                    return node;
                }
                done = level.node;
                depth -= 1;
            }
        };
    }
}
