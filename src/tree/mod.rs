//! The red-black tree of entries, augmented with the largest free gap.
//!
//! The balancing is `intrusive_collections::RBTree`'s; the augmentation hangs on its link
//! operations ([`ops`]). A permanent sentinel `[hi, hi)` holds the last gap, so every entry has a
//! successor and "is this range free" is one look at one node.
//!
//! ```text
//!      lo                                                   hi
//!      |  gap  [ entry )   gap   [ entry )[ entry )     gap    [sentinel)
//!              '- gap = free pages right before the entry
//! ```
//!
//! Everything is O(log n) and nothing recurses. The interface is safe: nodes enter as [`FreeNode`]
//! and leave as [`DetachedNode`], and what is borrowed from the tree borrows the tree.

#![allow(unsafe_code)]

mod check;
mod cursor;
mod gap;
mod ops;
mod walk;

#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use cursor::{CursorMut, Entries, EntryRef};
pub(crate) use gap::GapQuery;
pub use walk::{Busy, Token};
pub(crate) use walk::{Hit, Peek, Published};

use crate::node::{Content, DetachedNode, FreeNode, Node};
use crate::position::Number;
use crate::range::Span;
use crate::sync::{Word, unique};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};
use intrusive_collections::RBTree;
use ops::{Handle, TreeAdapter};

/// Entries in order, with their gaps. See the module's docs.
pub(crate) struct Tree<T: Content> {
    rb: RBTree<TreeAdapter<T>>,
    /// The library does not show its root. Ours is kept by climbing from the last known one.
    root: *mut Node<T>,
    /// `[hi, hi)`, always linked, without data.
    sentinel: NonNull<Node<T>>,
    len: usize,
    /// Pages in all entries together.
    pages: T::Position,
    lo: T::Position,
    /// Written into every node that is linked here; no other tree ever has the same.
    owner: u64,
    /// No node that was ever unlinked here has a higher generation. What is linked begins above it,
    /// so no generation comes back at the same address, even if the memory has been away.
    stamp: u64,
    /// The flushes under way since this change began: a set of slots, see `pending_flush`.
    /// Protected by the lock around the map; a `Word` because the set is put in by way of `&self`.
    pending_flushes: Word,
    content: PhantomData<T::Data>,
}

// SAFETY: the tree owns its nodes; sending it sends the data in them.
unsafe impl<T: Content> Send for Tree<T> where T::Data: Send {}
// SAFETY: a shared tree gives out `&T::Data` and attributes, and changes nothing.
unsafe impl<T: Content> Sync for Tree<T> where T::Data: Sync {}

impl<T: Content> Tree<T> {
    /// An empty tree over the pages of `space`.
    pub(crate) fn new(space: Span<T::Position>, sentinel: FreeNode<T>) -> Self {
        let owner = unique();
        let sentinel = sentinel.into_raw();
        let mut rb = RBTree::new(TreeAdapter::new());
        // SAFETY: a spare node is valid and ours alone.
        unsafe {
            let node = sentinel.as_ref();
            node.open();
            node.start.set(space.end);
            node.end.set(space.end);
            node.gap.set(space.len());
            node.max_gap.set(space.len());
            node.owner.set(owner);
            rb.cursor_mut().insert_before(Handle(sentinel));
            let _ = rb.cursor_from_ptr(sentinel.as_ptr());
            // The sentinel's generation stays odd: no reader ever takes it for an entry.
        }
        Tree {
            rb,
            root: sentinel.as_ptr(),
            sentinel,
            len: 0,
            pages: Number::ZERO,
            lo: space.start,
            owner,
            stamp: 0,
            pending_flushes: Word::new(0),
            content: PhantomData,
        }
    }

    /// Entries in the tree.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Pages in all entries together.
    #[inline]
    pub(crate) const fn pages(&self) -> T::Position {
        self.pages
    }

    /// The pages that the tree covers.
    pub(crate) fn space(&self) -> Span<T::Position> {
        Span::new(self.lo, self.sentinel().start.get())
    }

    /// Which tree this is: no other ever has the same number.
    pub(crate) const fn id(&self) -> u64 {
        self.owner
    }

    /// Says which flushes are under way: what changes from now on carries them. By whoever holds
    /// the lock around the map.
    pub(crate) fn set_flights(&self, pending_flushes: u32) {
        self.pending_flushes.set(pending_flushes as u64)
    }

    #[inline]
    fn pending_flushes(&self) -> u32 {
        self.pending_flushes.get() as u32
    }

    fn sentinel(&self) -> &Node<T> {
        // SAFETY: the sentinel is linked as long as the tree exists.
        unsafe { self.sentinel.as_ref() }
    }

    fn is_sentinel(&self, node: *mut Node<T>) -> bool {
        node == self.sentinel.as_ptr()
    }

    /// The entry that holds `page`. O(log n).
    #[inline]
    pub(crate) fn find(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        let mut at = self.root;
        let mut best: *mut Node<T> = ptr::null_mut();
        while !at.is_null() {
            // SAFETY: links of a tree that is borrowed lead to its nodes.
            let node = unsafe { &*at };
            let right = page >= node.start.get();
            // Which way a random address goes cannot be predicted; a wrong guess costs more than
            // the load that it would have started early.
            best = core::hint::select_unpredictable(right, at, best);
            at = core::hint::select_unpredictable(right, node.right.get(), node.left.get());
        }
        // SAFETY: null or a node of this tree. The sentinel is empty and holds no page.
        let node = unsafe { best.as_ref() }?;
        (page < node.end.get()).then(|| EntryRef::new(node))
    }

    /// The first node whose end lies above `page`, the sentinel if there is none. O(log n).
    fn above(&self, page: T::Position) -> *mut Node<T> {
        let mut at = self.root;
        let mut best = self.sentinel.as_ptr();
        while !at.is_null() {
            // SAFETY: links of a tree that is borrowed lead to its nodes.
            let node = unsafe { &*at };
            let left = page < node.end.get();
            best = core::hint::select_unpredictable(left, at, best);
            at = core::hint::select_unpredictable(left, node.left.get(), node.right.get());
        }
        best
    }

    /// The entry that holds `page`, or the next one above it. O(log n).
    pub(crate) fn find_from(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        let node = self.above(page);
        // SAFETY: `above` gives a node of this tree.
        (!self.is_sentinel(node)).then(|| EntryRef::new(unsafe { &*node }))
    }

    /// The last entry that begins below `page`. O(log n).
    pub(crate) fn find_before(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        let mut at = self.root;
        let mut best: *mut Node<T> = ptr::null_mut();
        while !at.is_null() {
            // SAFETY: links of a tree that is borrowed lead to its nodes.
            let node = unsafe { &*at };
            if node.start.get() < page && !self.is_sentinel(at) {
                best = at;
                at = node.right.get();
            } else {
                at = node.left.get();
            }
        }
        // SAFETY: null or a node of this tree.
        unsafe { best.as_ref() }.map(EntryRef::new)
    }

    /// Whether no page of `span` is in an entry. `span` lies within the space. O(log n).
    pub(crate) fn is_free(&self, span: Span<T::Position>) -> bool {
        // SAFETY: `above` gives a node of this tree.
        let node = unsafe { &*self.above(span.start) };
        node.start.get() >= span.end
    }

    /// The entries that share a page with `span`, in order, from both ends. O(log n) to begin, O(1)
    /// amortised a step.
    pub(crate) fn entries(&self, span: Span<T::Position>) -> Entries<'_, T> {
        Entries::new(self, span)
    }

    /// No entries, in the type of [`entries`](Self::entries).
    pub(crate) fn no_entries(&self) -> Entries<'_, T> {
        Entries::none(self)
    }

    /// A cursor at the first entry whose end lies above `page`, or at the end.
    pub(crate) fn cursor(&mut self, page: T::Position) -> CursorMut<'_, T> {
        let at = self.above(page);
        CursorMut::new(self, at)
    }

    /// The root moves by rotations only, so the old one is at most a few steps below the new one.
    #[inline]
    fn reroot(&mut self) {
        // SAFETY: the kept root is a node of this tree (`unlink` replaces it when it goes).
        unsafe {
            loop {
                let parent = ops::parent(&*self.root);
                if parent.is_null() {
                    return;
                }
                self.root = parent;
            }
        }
    }

    /// Links a node right before `succ`, whose own gap is already what it is from now on, with
    /// `gap` free pages before the new one.
    #[inline]
    fn link(
        &mut self,
        spare: FreeNode<T>,
        succ: *mut Node<T>,
        span: Span<T::Position>,
        gap: T::Position,
        attrs: T::Attrs,
        data: T::Data,
    ) {
        let new = spare.into_raw();
        // SAFETY: `new` is ours alone until it is linked; `succ` is a node of this tree.
        unsafe {
            let node = new.as_ref();
            node.open_above(self.stamp);
            node.start.set(span.start);
            node.end.set(span.end);
            node.gap.set(gap);
            node.max_gap.set(Number::ZERO);
            node.owner.set(self.owner);
            let hot = T::store(&node.words, &attrs, &data);
            node.put_data(data);
            node.close(hot, self.pending_flushes());
            self.rb.cursor_mut_from_ptr(succ).insert_before(Handle(new));
            // Asks the adapter for the link, which settles the augmentation (see `ops`).
            let _ = self.rb.cursor_from_ptr(new.as_ptr());
            ops::raise(succ);
        }
        self.reroot();
        self.len += 1;
        self.pages += span.len();
    }

    /// Takes a node out; gives it and its successor, whose gap grows by `freed` pages. Not for the
    /// sentinel.
    #[inline]
    fn unlink(
        &mut self,
        node: *mut Node<T>,
        freed: T::Position,
    ) -> (DetachedNode<T>, *mut Node<T>) {
        debug_assert!(!self.is_sentinel(node));
        // SAFETY: a node of this tree that is not the sentinel has a successor.
        unsafe {
            let gone = &*node;
            gone.open(); // dead for readers without the lock, for good
            self.stamp = self.stamp.max(gone.seq());
            let span = Span::new(gone.start.get(), gone.end.get());
            let mut cursor = self.rb.cursor_mut_from_ptr(node);
            let _ = cursor.remove(); // ends in `release_link`, which settles the augmentation
            let succ = cursor.get_ptr().map_or(self.sentinel.as_ptr(), NonNull::as_ptr);
            if freed > Number::ZERO {
                (*succ).gap.set((*succ).gap.get() + freed);
                ops::raise(succ);
            }
            if self.root == node {
                self.root = succ;
            }
            self.reroot();
            self.len -= 1;
            self.pages -= span.len();
            (DetachedNode::from_raw(NonNull::new_unchecked(node)), succ)
        }
    }

    /// Takes the tree apart without rebalancing: every entry, in no particular order, then the
    /// sentinel. O(n), no recursion, no memory. What is left holds nothing and must not be used; a
    /// second call gives nothing.
    pub(crate) fn dismantle(
        &mut self,
        mut entry: impl FnMut(DetachedNode<T>),
    ) -> Option<FreeNode<T>> {
        self.rb.fast_clear();
        let mut at = core::mem::replace(&mut self.root, ptr::null_mut());
        if at.is_null() {
            return None;
        }
        while !at.is_null() {
            // SAFETY: the links are intact, and a node is given away only after it has been cut off
            // its parent, when no link leads to it any more.
            unsafe {
                let node = &*at;
                let (left, right) = (node.left.get(), node.right.get());
                if !left.is_null() {
                    at = left;
                    continue;
                }
                if !right.is_null() {
                    at = right;
                    continue;
                }
                let parent = ops::parent(node);
                if !parent.is_null() {
                    let side =
                        if (*parent).left.get() == at { &(*parent).left } else { &(*parent).right };
                    side.set(ptr::null_mut());
                }
                if !self.is_sentinel(at) {
                    node.open();
                    entry(DetachedNode::from_raw(NonNull::new_unchecked(at)));
                }
                at = parent;
            }
        }
        // SAFETY: cut off like the others, never had data.
        Some(unsafe { FreeNode::from_raw(self.sentinel) })
    }
}
