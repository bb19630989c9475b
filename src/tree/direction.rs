//! The two ways through a tree, as types: what is done upwards and downwards is written once.

use core::ptr;

use super::link_ops;
use crate::node::{Content, Node};
use crate::sync::Link;

/// A way through the entries.
pub(super) trait Direction {
    /// Returns the link to what comes before a node on this way.
    fn behind<T: Content>(node: &Node<T>) -> &Link<Node<T>>;

    /// Returns the link to what comes after a node on this way.
    fn ahead<T: Content>(node: &Node<T>) -> &Link<Node<T>>;
}

/// From the lowest entry to the highest.
pub(super) enum Upwards {}

/// From the highest entry to the lowest.
pub(super) enum Downwards {}

impl Direction for Upwards {
    #[inline(always)]
    fn behind<T: Content>(node: &Node<T>) -> &Link<Node<T>> {
        &node.left
    }

    #[inline(always)]
    fn ahead<T: Content>(node: &Node<T>) -> &Link<Node<T>> {
        &node.right
    }
}

impl Direction for Downwards {
    #[inline(always)]
    fn behind<T: Content>(node: &Node<T>) -> &Link<Node<T>> {
        &node.right
    }

    #[inline(always)]
    fn ahead<T: Content>(node: &Node<T>) -> &Link<Node<T>> {
        &node.left
    }
}

/// Returns the next node on the way, or null.
///
/// # Safety
///
/// `node` is linked, and the tree does not change meanwhile.
#[inline(always)]
pub(super) unsafe fn next<D: Direction, T: Content>(node: &Node<T>) -> *mut Node<T> {
    let mut at = D::ahead(node).get();
    // SAFETY: links lead to linked nodes.
    while let Some(node) = unsafe { at.as_ref() } {
        super::visit();
        let behind = D::behind(node).get();
        if behind.is_null() {
            return at;
        }
        at = behind;
    }
    // SAFETY: as above.
    unsafe { next_above::<D, T>(node) }
}

/// Returns the first node further up that comes after all of the subtree of `at`, or null.
///
/// # Safety
///
/// Those of [`next`].
#[inline(always)]
pub(super) unsafe fn next_above<D: Direction, T: Content>(mut at: &Node<T>) -> *mut Node<T> {
    loop {
        let up = link_ops::parent(at);
        // SAFETY: null or a linked node.
        let Some(parent) = (unsafe { up.as_ref() }) else { return up };
        super::visit();
        if ptr::eq(D::behind(parent).get(), at) {
            return up;
        }
        at = parent;
    }
}
