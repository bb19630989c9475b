//! A red-black tree of ranges, augmented with the largest gap of each subtree.
//!
//! The balancing is `intrusive_collections::RBTree`'s; the augmentation hangs on its link
//! operations ([`link_ops`]). A permanent sentinel `[hi, hi)` holds the last gap, so every entry
//! has a successor, and one look at one node tells whether a range is free.
//!
//! ```text
//!      lo                                                   hi
//!      |  gap  [ entry )   gap   [ entry )[ entry )     gap    [sentinel)
//!              '- gap = free pages right before the entry
//! ```
//!
//! Everything is O(log n) and nothing recurses. The interface is safe: nodes enter as [`FreeNode`]
//! and leave as [`DetachedNode`], and references into the tree borrow it.

#![allow(unsafe_code)]

mod build;
mod check;
mod cursor;
mod direction;
mod entries;
mod gap;
mod grown_gap;
mod guard_gap;
#[cfg(any(feature = "alloc", loom))]
mod heap;
mod hint_table;
mod hints;
mod link_ops;
mod lookup;
mod random_gap;
mod rearranged;
mod replace;

#[cfg(all(test, not(loom)))]
mod tests;
#[cfg(all(test, not(loom)))]
pub(crate) mod visits;

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use intrusive_collections::RBTree;

pub(crate) use self::build::Filling;
pub(crate) use self::cursor::{Below, CursorMut, DataOver};
pub(crate) use self::entries::{Entries, EntryRef};
pub(crate) use self::gap::GapQuery;
pub use self::hint_table::HintTable;
use self::link_ops::{Handle, TreeAdapter};
#[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
pub(crate) use self::lookup::TreeVersion;
pub use self::lookup::{Busy, Token};
pub(crate) use self::lookup::{Hit, Peek, Published};
#[cfg(all(test, not(loom)))]
use self::visits::visit;
use crate::node::{Content, DetachedNode, FreeNode, NO_DATA, Node};
use crate::position::{Field, Number};
use crate::range::PageRange;
use crate::sync::{Link, Word, unique};

/// Notes that a search looks at a node. Tests count that.
#[cfg(not(all(test, not(loom))))]
#[inline(always)]
const fn visit() {}

/// Entries in order, with the gaps between them.
pub(crate) struct Tree<T: Content> {
    rb: RBTree<TreeAdapter<T>>,
    /// The library does not show its root. Ours is kept by climbing from the last known one.
    root: *mut Node<T>,
    /// The node that `above` has found last, or any other that is linked. An atomic, because
    /// several threads may look into a map that nobody changes.
    last_above: Link<Node<T>>,
    /// Null, or a linked node whose gap the nodes further up may not know yet: see `grown_gap`.
    grown: Link<Node<T>>,
    /// `[hi, hi)`, always linked, without data.
    sentinel: NonNull<Node<T>>,
    len: usize,
    /// The number of pages in all entries together.
    pages: T::Position,
    lo: T::Position,
    context: T::Context,
    /// No entry that begins below this page keeps a guard gap.
    /// A `Field` because it is set through `&self`.
    lowest_guarded: Field<T::Position>,
    /// Written into every node that is linked here; no other tree ever has the same.
    number: u64,
    /// The address of this tree when the lock around it was taken, 0 when it is not taken. If the
    /// tree lies elsewhere, another one has been put in its place, and readers may still begin at
    /// its root. Protected by the lock; a `Word` because it is set through `&self`.
    held_at: Word,
    /// No node that was ever unlinked here has a higher generation. Nodes that are linked begin
    /// above it, so no generation comes back at the same address, even if the memory was given back
    /// in between.
    generation_floor: u64,
    /// The flushes that were pending when this change began, or that it began: a set of slots, see
    /// `pending_flush`. Protected by the lock around the map; a `Word` because it is set through
    /// `&self`.
    pending_flushes: Word,
    content: PhantomData<T::Data>,
}

// SAFETY: the tree owns its nodes; sending it sends the data in them.
unsafe impl<T: Content> Send for Tree<T> where T::Data: Send {}
// SAFETY: a shared tree gives out `&T::Data` and attributes, and changes nothing.
unsafe impl<T: Content> Sync for Tree<T> where T::Data: Sync {}

impl<T: Content> Tree<T> {
    /// Creates an empty tree over the pages of `space`.
    pub(crate) fn new(
        space: PageRange<T::Position>,
        context: T::Context,
        sentinel: FreeNode<T>,
    ) -> Self {
        let number = unique();
        let sentinel = sentinel.into_raw();
        let mut rb = RBTree::new(TreeAdapter::new());
        // SAFETY: a free node is valid and ours alone.
        unsafe {
            let node = sentinel.as_ref();
            node.write_begin();
            node.start.set(space.end);
            node.end.set(space.end);
            node.gap.set(space.len());
            node.max_gap.set(space.len());
            node.tree.set(number);
            rb.cursor_mut().insert_before(Handle(sentinel));
            let _ = rb.cursor_from_ptr(sentinel.as_ptr());
            // Readers know the sentinel by its range, which is empty: see `lookup::next`.
            node.write_end(NO_DATA, 0);
        }
        Self {
            rb,
            root: sentinel.as_ptr(),
            last_above: Link::to(sentinel.as_ptr()),
            grown: Link::null(),
            sentinel,
            len: 0,
            pages: Number::ZERO,
            lo: space.start,
            context,
            lowest_guarded: Field::new(space.end),
            number,
            held_at: Word::new(0),
            generation_floor: 0,
            pending_flushes: Word::new(0),
            content: PhantomData,
        }
    }

    /// Returns the number of entries.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of pages in all entries together.
    #[inline]
    pub(crate) const fn pages(&self) -> T::Position {
        self.pages
    }

    /// Returns the pages that the tree covers.
    pub(crate) fn space(&self) -> PageRange<T::Position> {
        PageRange::new(self.lo, self.sentinel().start.get())
    }

    /// Returns the value that splitting and merging need.
    #[inline]
    pub(crate) const fn context(&self) -> T::Context {
        self.context
    }

    /// Returns the tree's number, which no other tree ever has.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Notes that the lock around the tree has been taken.
    #[inline]
    pub(crate) fn hold_begins(&self) {
        self.held_at.set(ptr::from_ref(self).addr() as u64);
    }

    /// Notes that the lock around the tree is about to be released.
    #[inline]
    pub(crate) fn hold_ends(&self) {
        self.held_at.set(0);
    }

    /// Gives the tree another number before it changes, if it was exchanged for another one while
    /// the lock was held. Readers of the address space still begin at its root, and would take what
    /// is added to it now for theirs.
    #[inline]
    fn leave_former_space(&mut self) {
        let held_at = self.held_at.get();
        if held_at != 0 && held_at != ptr::from_ref(self).addr() as u64 {
            self.held_at.set(0);
            self.renumber();
        }
    }

    /// Gives the tree another number, which ends the validity of all tokens. O(n).
    #[cold]
    fn renumber(&mut self) {
        self.number = unique();
        let sentinel = self.sentinel();
        sentinel.write_begin();
        sentinel.tree.set(self.number);
        sentinel.write_end(sentinel.hot(), 0);
        for entry in self.entries(self.space()) {
            let node = entry.node;
            node.write_begin();
            node.tree.set(self.number);
            node.write_end(node.hot(), self.pending_flushes());
        }
    }

    /// Sets the pending flushes, which every node that changes from now on carries. Called by
    /// whoever holds the lock around the map.
    pub(crate) fn set_pending_flushes(&self, pending_flushes: u32) {
        self.pending_flushes.set(pending_flushes as u64);
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

    /// Finds the entry that holds `page`. O(log n).
    #[inline]
    pub(crate) fn find(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        let mut at = self.root;
        let mut best: *mut Node<T> = ptr::null_mut();
        loop {
            // SAFETY: links of a tree that is borrowed lead to its nodes; the root is never null.
            let node = unsafe { &*at };
            let right = page >= node.start.get();
            // Which way a random address goes cannot be predicted; a wrong guess costs more than
            // the load that it would have started early.
            best = core::hint::select_unpredictable(right, at, best);
            at = core::hint::select_unpredictable(right, node.right.get(), node.left.get());
            if at.is_null() {
                break;
            }
        }
        // SAFETY: null or a node of this tree. The sentinel is empty and holds no page.
        let node = unsafe { best.as_ref() }?;
        (page < node.end.get()).then(|| EntryRef::new(node))
    }

    /// Finds the entry that holds `page`, like [`find`](Self::find), in O(1) if it is the one that
    /// was found last. For operations, which come back to the same place; a single lookup is
    /// faster without.
    #[cfg(any(feature = "linux", feature = "guest"))]
    #[inline]
    pub(crate) fn find_again(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        // SAFETY: `above` gives a node of this tree.
        let node = unsafe { &*self.above(page) };
        (node.start.get() <= page && page < node.end.get()).then(|| EntryRef::new(node))
    }

    /// Finds the first node whose end lies above `page`, the sentinel if there is none. O(log n),
    /// and O(1) for the node that was found last: an operation looks a range up to plan and again
    /// to change it.
    #[inline]
    fn above(&self, page: T::Position) -> *mut Node<T> {
        let last = self.last_above.get();
        // SAFETY: a linked node of this tree, by the invariant of `last_above`.
        let node = unsafe { &*last };
        if Self::is_right_above(node, page) {
            return last;
        }
        // Walks over a range come next to the entry that begins where the last one ends, or above.
        // SAFETY: linked, and the tree is borrowed.
        let after = || unsafe { Self::above_after(node, page) };
        let found = if node.end.get() == page { after() } else { None };
        let found = found.unwrap_or_else(|| self.descend_above(page));
        self.last_above.set(found);
        found
    }

    /// Returns the node after a linked one, if it is the first one whose end lies above `page`.
    /// O(1) amortised over all nodes.
    ///
    /// # Safety
    ///
    /// That of [`entries::successor`].
    #[inline(never)]
    unsafe fn above_after(node: &Node<T>, page: T::Position) -> Option<*mut Node<T>> {
        // SAFETY: by the contract of this function.
        let next = unsafe { entries::successor(node) };
        // SAFETY: null or linked.
        unsafe { next.as_ref() }
            .is_some_and(|next| Self::is_right_above(next, page))
            .then_some(next)
    }

    /// Returns `true` if a linked node is known to be the first one whose end lies above `page`.
    #[inline(always)]
    fn is_right_above(node: &Node<T>, page: T::Position) -> bool {
        let start = node.start.get();
        start - node.gap.get() <= page && page < node.end.get()
    }

    /// Finds what [`above`](Self::above) does, from the root.
    #[inline(never)]
    fn descend_above(&self, page: T::Position) -> *mut Node<T> {
        let mut at = self.root;
        let mut best = self.sentinel.as_ptr();
        loop {
            visit();
            // SAFETY: links of a tree that is borrowed lead to its nodes; the root is never null.
            let node = unsafe { &*at };
            let (start, end) = (node.start.get(), node.end.get());
            // Written so that it is one branch, which goes the same way until the last step.
            if page.wrapping_sub(start) < end.wrapping_sub(start) {
                // The levels that are left are those that no cache holds.
                Self::fetch_children(node);
                return at;
            }
            let left = page < end;
            best = core::hint::select_unpredictable(left, at, best);
            at = core::hint::select_unpredictable(left, node.left.get(), node.right.get());
            if at.is_null() {
                return best;
            }
        }
    }

    /// Loads the children of a node that an operation has found, both at once, and waits for
    /// neither: the neighbours, which it asks for next, are among them or lie below.
    #[inline(always)]
    fn fetch_children(node: &Node<T>) {
        let own = ptr::from_ref(node).cast_mut();
        for child in [node.left.get(), node.right.get()] {
            let at = core::hint::select_unpredictable(child.is_null(), own, child);
            // SAFETY: links of a tree that is borrowed lead to its nodes.
            let _ = unsafe { (*at).left.get() };
        }
    }

    /// Finds the entry that holds `page`, or the next one above it. O(log n).
    pub(crate) fn find_from(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        let node = self.above(page);
        // SAFETY: `above` gives a node of this tree.
        (!self.is_sentinel(node)).then(|| EntryRef::new(unsafe { &*node }))
    }

    /// Finds the last entry that begins below `page`. O(log n).
    pub(crate) fn find_before(&self, page: T::Position) -> Option<EntryRef<'_, T>> {
        // SAFETY: a linked node of this tree, by the invariant of `last_above`.
        let last = unsafe { &*self.last_above.get() };
        if Self::is_right_above(last, page) {
            // SAFETY: linked, and the tree is borrowed; null or a linked node comes back.
            let before = || unsafe { entries::predecessor(last).as_ref() };
            let found = if last.start.get() < page { Some(last) } else { before() };
            return found.map(EntryRef::new);
        }
        let mut at = self.root;
        let mut best: *mut Node<T> = ptr::null_mut();
        while !at.is_null() {
            visit();
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

    /// Returns `true` if no page of `range` is in an entry. `range` lies within the space. O(log
    /// n).
    pub(crate) fn is_free(&self, range: PageRange<T::Position>) -> bool {
        // SAFETY: `above` gives a node of this tree.
        let node = unsafe { &*self.above(range.start) };
        node.start.get() >= range.end
    }

    /// Iterates over the entries that share a page with `range`, in order, from both ends. O(log n)
    /// to begin, O(1) amortised a step.
    pub(crate) fn entries(&self, range: PageRange<T::Position>) -> Entries<'_, T> {
        Entries::new(self, range)
    }

    /// Returns a cursor at the first entry whose end lies above `page`, or at the end.
    pub(crate) fn cursor(&mut self, page: T::Position) -> CursorMut<'_, T> {
        self.leave_former_space();
        let at = self.above(page);
        CursorMut::new(self, at)
    }

    /// The root moves by rotations only, so the old one is at most a few steps below the new one.
    #[inline]
    fn reroot(&mut self) {
        // SAFETY: the kept root is a node of this tree (`unlink` replaces it when it goes).
        unsafe {
            loop {
                let parent = link_ops::parent(&*self.root);
                if parent.is_null() {
                    return;
                }
                self.root = parent;
            }
        }
    }

    /// Links a node right before `succ`, with `gap` free pages before the new one, and the rest of
    /// what was free before `succ` behind it. `key` is the data's.
    #[inline]
    #[allow(clippy::too_many_arguments)] // All that a node holds.
    fn link(
        &mut self,
        free: FreeNode<T>,
        succ: *mut Node<T>,
        range: PageRange<T::Position>,
        gap: T::Position,
        attrs: T::Attrs,
        data: Option<T::Data>,
        key: u64,
    ) {
        // SAFETY: `new` is ours alone until it is linked; `succ` is a node of this tree.
        unsafe {
            let next = &*succ;
            let former = next.gap.get();
            // Before the new entry can be found, even by who has come to its node in another life:
            // see `lookup::next`.
            next.gap.set(self.gap_of(next, next.hot(), next.start.get() - range.end));
            let new = self.init(free, range, gap, attrs, data, key);
            self.rb.cursor_mut_from_ptr(succ).insert_before(Handle(new));
            // Asks the adapter for the link, which propagates the largest gaps (see `link_ops`).
            let _ = self.rb.cursor_from_ptr(new.as_ptr());
            self.gap_changed(next, former);
        }
        self.reroot();
        self.len += 1;
        self.pages += range.len();
    }

    /// Makes a free node an entry of this tree, to be linked next. Runs none of the kernel's code.
    #[inline(always)]
    fn init(
        &self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        gap: T::Position,
        attrs: T::Attrs,
        data: Option<T::Data>,
        key: u64,
    ) -> NonNull<Node<T>> {
        let new = free.into_raw();
        // SAFETY: a free node is valid, ours alone, and holds no data.
        unsafe {
            let node = new.as_ref();
            node.write_begin_above(self.generation_floor);
            node.start.set(range.start);
            node.end.set(range.end);
            node.tree.set(self.number);
            let hot = match data {
                Some(data) => {
                    node.put_data(data);
                    node.store(&attrs, key)
                }
                None => node.store_claim(&attrs),
            };
            let gap = self.gap_of(node, hot, gap);
            node.gap.set(gap);
            node.max_gap.set(gap);
            node.write_end(hot, self.pending_flushes());
        }
        new
    }

    /// Fills this tree, which is empty, with entries in ascending order. O(n) for all of them.
    pub(crate) fn fill(&mut self) -> Filling<'_, T> {
        self.leave_former_space();
        Filling::new(self)
    }

    /// Unlinks a node. Returns it and its successor, whose gap grows by `freed` pages. Not for the
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
            gone.write_begin(); // dead for readers without the lock, for good
            self.generation_floor = self.generation_floor.max(gone.generation());
            let range = PageRange::new(gone.start.get(), gone.end.get());
            self.forget_grown(node);
            let mut cursor = self.rb.cursor_mut_from_ptr(node);
            let _ = cursor.remove(); // ends in `release_link`, which propagates the largest gaps
            let succ = cursor.get_ptr().map_or(self.sentinel.as_ptr(), NonNull::as_ptr);
            if freed > Number::ZERO {
                self.set_free_before(&*succ, self.free_after_unlink(&*succ, freed));
            }
            if self.root == node {
                self.root = succ;
            }
            if self.last_above.get() == node {
                self.last_above.set(succ);
            }
            self.reroot();
            self.len -= 1;
            self.pages -= range.len();
            (DetachedNode::from_raw(NonNull::new_unchecked(node)), succ)
        }
    }

    /// Takes the tree apart without rebalancing: hands every entry to `entry`, in no particular
    /// order, and returns the sentinel. O(n), no recursion, no memory. The tree that is left must
    /// not be used; a second call returns `None`.
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
                let parent = link_ops::parent(node);
                if !parent.is_null() {
                    let side =
                        if (*parent).left.get() == at { &(*parent).left } else { &(*parent).right };
                    side.set(ptr::null_mut());
                }
                if !self.is_sentinel(at) {
                    node.write_begin();
                    entry(DetachedNode::from_raw(NonNull::new_unchecked(at)));
                }
                at = parent;
            }
        }
        self.sentinel().write_begin();
        // SAFETY: cut off like the others, never had data.
        Some(unsafe { FreeNode::from_raw(self.sentinel) })
    }
}
