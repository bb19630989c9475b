//! The entries in order: iteration, and the step from one to the next.

use core::marker::PhantomData;
use core::ptr;

use super::Tree;
use super::direction::{self, Downwards, Upwards};
use crate::node::{Content, Node};
use crate::position::Number;
use crate::range::PageRange;

/// The steps from the first entry of a range to its last one, after which a search from the root is
/// shorter.
const STEPS_TO_LAST: usize = 8;

/// Returns the in-order successor, or null.
///
/// # Safety
///
/// `node` is linked, and the tree does not change meanwhile.
pub(super) unsafe fn successor<T: Content>(node: &Node<T>) -> *mut Node<T> {
    // SAFETY: by the contract of this function.
    unsafe { direction::next::<Upwards, T>(node) }
}

/// Returns the in-order predecessor, or null.
///
/// # Safety
///
/// `node` is linked, and the tree does not change meanwhile.
pub(super) unsafe fn predecessor<T: Content>(node: &Node<T>) -> *mut Node<T> {
    // SAFETY: by the contract of this function.
    unsafe { direction::next::<Downwards, T>(node) }
}

/// An entry, borrowed from its tree.
pub(crate) struct EntryRef<'t, T: Content> {
    pub(super) node: &'t Node<T>,
    /// Nodes are `Sync` whatever data they hold; a borrow that gives the data out is not.
    data: PhantomData<&'t T::Data>,
}

impl<T: Content> Clone for EntryRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Content> Copy for EntryRef<'_, T> {}

impl<'t, T: Content> EntryRef<'t, T> {
    pub(super) fn new(node: &'t Node<T>) -> Self {
        EntryRef { node, data: PhantomData }
    }

    pub(crate) fn range(self) -> PageRange<T::Position> {
        PageRange::new(self.node.start.get(), self.node.end.get())
    }

    pub(crate) fn attrs(self) -> T::Attrs {
        self.node.attrs()
    }

    /// Returns the data, or `None` of a claim.
    pub(crate) fn data(self) -> Option<&'t T::Data> {
        // SAFETY: only entries are given out, never the sentinel. An entry says itself whether it
        // holds data, and while the tree is borrowed nobody changes it.
        self.node.has_data().then(|| unsafe { self.node.data() })
    }

    /// Returns `true` if the entry is a claim, which holds no data.
    pub(crate) fn is_claim(self) -> bool {
        !self.node.has_data()
    }

    /// Returns the number of free pages right before the entry. O(1), and O(log n) where entries
    /// keep guard gaps.
    pub(crate) fn gap_before(self) -> T::Position {
        if T::HAS_GUARD_GAPS {
            // SAFETY: linked, and the tree is borrowed; null or a linked node comes back.
            if let Some(before) = unsafe { predecessor(self.node).as_ref() } {
                return self.node.start.get() - before.end.get();
            }
        }
        // Whole if there is no entry before: see `guard_gap`.
        self.node.gap.get()
    }
}

/// An iterator over the entries that share a page with a range, from both ends.
pub(crate) struct Entries<'t, T: Content> {
    tree: &'t Tree<T>,
    /// The page behind the last page of the range.
    end: T::Position,
    /// The next from the front; null when the two have met.
    front: *mut Node<T>,
    /// The next from the back; null as long as nobody has asked from there.
    back: *mut Node<T>,
}

impl<T: Content> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        Entries { ..*self }
    }
}

impl<'t, T: Content> Entries<'t, T> {
    pub(super) fn new(tree: &'t Tree<T>, range: PageRange<T::Position>) -> Self {
        let mut entries = Entries::none(tree);
        if !range.is_empty() {
            entries.end = range.end;
            entries.front = entries.if_inside(tree.above(range.start));
        }
        entries
    }

    pub(super) fn none(tree: &'t Tree<T>) -> Self {
        Entries { tree, end: Number::ZERO, front: ptr::null_mut(), back: ptr::null_mut() }
    }

    /// Returns the first and the last entry, which may reach beyond the ends of the range. O(log
    /// n).
    pub(crate) fn ends(&self) -> Option<(EntryRef<'t, T>, EntryRef<'t, T>)> {
        // SAFETY: null or a node of the borrowed tree.
        let first = EntryRef::new(unsafe { self.front.as_ref() }?);
        let mut last = first;
        for _ in 0..STEPS_TO_LAST {
            if last.range().end >= self.end || ptr::eq(last.node, self.back) {
                return Some((first, last));
            }
            // SAFETY: linked, and the tree is borrowed.
            let next = self.if_inside(unsafe { successor(last.node) });
            // SAFETY: null or a node of the borrowed tree.
            let Some(next) = (unsafe { next.as_ref() }) else { return Some((first, last)) };
            last = EntryRef::new(next);
        }
        Some((first, self.clone().next_back().unwrap_or(last)))
    }

    /// Returns the node if it is an entry that begins before the end, else null.
    fn if_inside(&self, node: *mut Node<T>) -> *mut Node<T> {
        // SAFETY: a node of the borrowed tree: every entry has a successor.
        let inside = !self.tree.is_sentinel(node) && unsafe { (*node).start.get() } < self.end;
        if inside { node } else { ptr::null_mut() }
    }
}

impl<'t, T: Content> Iterator for Entries<'t, T> {
    type Item = EntryRef<'t, T>;

    fn next(&mut self) -> Option<EntryRef<'t, T>> {
        // SAFETY: null or a node of the borrowed tree.
        let node = unsafe { self.front.as_ref() }?;
        self.front = if self.front == self.back {
            ptr::null_mut()
        } else {
            // SAFETY: linked, and the tree is borrowed.
            self.if_inside(unsafe { successor(node) })
        };
        Some(EntryRef::new(node))
    }
}

impl<'t, T: Content> DoubleEndedIterator for Entries<'t, T> {
    fn next_back(&mut self) -> Option<EntryRef<'t, T>> {
        if self.front.is_null() {
            return None;
        }
        if self.back.is_null() {
            self.back = ptr::from_ref(self.tree.find_before(self.end)?.node).cast_mut();
        }
        // SAFETY: a node of the borrowed tree.
        let node = unsafe { &*self.back };
        if self.front == self.back {
            self.front = ptr::null_mut();
        } else {
            // SAFETY: linked, and the tree is borrowed.
            self.back = unsafe { predecessor(node) };
        }
        Some(EntryRef::new(node))
    }
}
