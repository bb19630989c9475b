//! Walking the entries in order, and changing them in place.

use super::{Tree, ops};
use crate::node::{Content, DetachedNode, FreeNode, Node};
use crate::position::Number;
use crate::range::Span;
use core::marker::PhantomData;
use core::ptr;

/// The in-order successor, or null.
///
/// # Safety
///
/// `node` is linked, and the tree does not change meanwhile.
pub(super) unsafe fn successor<T: Content>(node: &Node<T>) -> *mut Node<T> {
    let mut at = node.right.get();
    if !at.is_null() {
        loop {
            // SAFETY: links lead to linked nodes.
            let left = unsafe { (*at).left.get() };
            if left.is_null() {
                return at;
            }
            at = left;
        }
    }
    let mut below: *const Node<T> = node;
    let mut up = ops::parent(node);
    // SAFETY: as above.
    while let Some(parent) = unsafe { up.as_ref() } {
        if ptr::eq(parent.left.get(), below) {
            return up;
        }
        below = parent;
        up = ops::parent(parent);
    }
    ptr::null_mut()
}

/// The in-order predecessor, or null.
///
/// # Safety
///
/// `node` is linked, and the tree does not change meanwhile.
unsafe fn predecessor<T: Content>(node: &Node<T>) -> *mut Node<T> {
    let mut at = node.left.get();
    if !at.is_null() {
        loop {
            // SAFETY: links lead to linked nodes.
            let right = unsafe { (*at).right.get() };
            if right.is_null() {
                return at;
            }
            at = right;
        }
    }
    let mut below: *const Node<T> = node;
    let mut up = ops::parent(node);
    // SAFETY: as above.
    while let Some(parent) = unsafe { up.as_ref() } {
        if ptr::eq(parent.right.get(), below) {
            return up;
        }
        below = parent;
        up = ops::parent(parent);
    }
    ptr::null_mut()
}

/// The write section of a node in which the kernel's code changes the data.
///
/// It begins before that code runs and ends with what the data then is, also when the code panics.
/// Readers without the lock rely on that: the key that a node shows while its generation is even
/// is the key of data that exists. A reader that has a guard follows it, see
/// [`pinned`](crate::pinned).
struct WriteSection<'t, T: Content> {
    node: &'t Node<T>,
    /// What the node's attributes are from the end of the section on: those it has, if not changed.
    attrs: T::Attrs,
    pending_flushes: u32,
}

impl<'t, T: Content> WriteSection<'t, T> {
    #[inline(always)]
    fn new(node: &'t Node<T>, pending_flushes: u32) -> Self {
        node.open();
        Self { node, attrs: node.attrs(), pending_flushes }
    }
}

impl<T: Content> Drop for WriteSection<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: an entry holds data, and the borrow under which it was changed has ended.
        let hot = T::store(&self.node.words, &self.attrs, unsafe { self.node.data() });
        self.node.close(hot, self.pending_flushes);
    }
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

    #[inline]
    pub(crate) fn span(self) -> Span<T::Position> {
        Span::new(self.node.start.get(), self.node.end.get())
    }

    #[inline]
    pub(crate) fn attrs(self) -> T::Attrs {
        self.node.attrs()
    }

    #[inline]
    pub(crate) fn data(self) -> &'t T::Data {
        // SAFETY: only entries are given out, never the sentinel; entries hold data, and while the
        // tree is borrowed nobody changes it.
        unsafe { self.node.data() }
    }

    /// Free pages right before the entry.
    #[inline]
    pub(crate) fn gap_before(self) -> T::Position {
        self.node.gap.get()
    }
}

/// The entries that share a page with a span, from both ends.
pub(crate) struct Entries<'t, T: Content> {
    tree: &'t Tree<T>,
    /// One past the last page of the span.
    end: T::Position,
    /// The next from the first_batch; null when the two have met.
    first_batch: *mut Node<T>,
    /// The next from the back; null as long as nobody has asked from there.
    back: *mut Node<T>,
}

impl<T: Content> Clone for Entries<'_, T> {
    fn clone(&self) -> Self {
        Entries { ..*self }
    }
}

impl<'t, T: Content> Entries<'t, T> {
    #[inline]
    pub(super) fn new(tree: &'t Tree<T>, span: Span<T::Position>) -> Self {
        let mut entries = Entries::none(tree);
        if !span.is_empty() {
            entries.end = span.end;
            entries.first_batch = entries.if_inside(tree.above(span.start));
        }
        entries
    }

    /// No entries.
    pub(super) fn none(tree: &'t Tree<T>) -> Self {
        Entries { tree, end: Number::ZERO, first_batch: ptr::null_mut(), back: ptr::null_mut() }
    }

    /// The node, if it is an entry that begins before the end; else null.
    #[inline(always)]
    fn if_inside(&self, node: *mut Node<T>) -> *mut Node<T> {
        // SAFETY: a node of the borrowed tree: every entry has a successor.
        let inside = !self.tree.is_sentinel(node) && unsafe { (*node).start.get() } < self.end;
        if inside { node } else { ptr::null_mut() }
    }
}

impl<'t, T: Content> Iterator for Entries<'t, T> {
    type Item = EntryRef<'t, T>;

    #[inline]
    fn next(&mut self) -> Option<EntryRef<'t, T>> {
        // SAFETY: null or a node of the borrowed tree.
        let node = unsafe { self.first_batch.as_ref() }?;
        self.first_batch = if self.first_batch == self.back {
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
        if self.first_batch.is_null() {
            return None;
        }
        if self.back.is_null() {
            self.back = ptr::from_ref(self.tree.find_before(self.end)?.node).cast_mut();
        }
        // SAFETY: a node of the borrowed tree.
        let node = unsafe { &*self.back };
        if self.first_batch == self.back {
            self.first_batch = ptr::null_mut();
        } else {
            // SAFETY: linked, and the tree is borrowed.
            self.back = unsafe { predecessor(node) };
        }
        Some(EntryRef::new(node))
    }
}

impl<T: Content> Tree<T> {
    /// Makes the entries that share a page with `span` ones that have changed, as far as readers
    /// without the lock can tell. O(log n + entries).
    pub(crate) fn touch(&mut self, span: Span<T::Position>) {
        for entry in self.entries(span) {
            let node = entry.node;
            node.open();
            node.close(node.hot(), self.pending_flushes());
        }
    }
}

/// A place in the tree where it can be changed: at an entry, or at the end behind the last one.
pub(crate) struct CursorMut<'t, T: Content> {
    tree: &'t mut Tree<T>,
    /// A linked node; the sentinel stands for the end.
    at: *mut Node<T>,
}

impl<'t, T: Content> CursorMut<'t, T> {
    pub(super) fn new(tree: &'t mut Tree<T>, at: *mut Node<T>) -> Self {
        CursorMut { tree, at }
    }

    #[inline(always)]
    fn node(&self) -> &Node<T> {
        // SAFETY: linked, by the invariant of `at`.
        unsafe { &*self.at }
    }

    /// The entry here, or `None` at the end.
    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_, T>> {
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(self.node()))
    }

    /// The entry here for as long as the tree is borrowed.
    pub(crate) fn into_entry(self) -> Option<EntryRef<'t, T>> {
        // SAFETY: linked, and the cursor's borrow of the tree goes over to the entry.
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(unsafe { &*self.at }))
    }

    /// The entry before this place.
    pub(crate) fn prev(&self) -> Option<EntryRef<'_, T>> {
        // SAFETY: linked; null or a linked node comes back.
        unsafe { predecessor(self.node()).as_ref() }.map(EntryRef::new)
    }

    /// Goes to the next entry, or to the end, where it stays.
    pub(crate) fn move_next(&mut self) {
        // SAFETY: linked; the last entry's successor is the sentinel.
        let next = unsafe { successor(self.node()) };
        if !next.is_null() {
            self.at = next;
        }
    }

    /// Goes to the entry before this place. False, and nothing moves, if there is none.
    pub(crate) fn move_prev(&mut self) -> Option<EntryRef<'_, T>> {
        // SAFETY: linked.
        let prev = unsafe { predecessor(self.node()) };
        if prev.is_null() {
            return None;
        }
        self.at = prev;
        self.entry()
    }

    /// Replaces the attributes. Nothing happens at the end.
    pub(crate) fn set_attrs(&mut self, attrs: T::Attrs) {
        if self.entry().is_none() {
            return;
        }
        let node = self.node();
        node.open();
        // SAFETY: an entry holds data, and we have the tree to ourselves.
        let hot = T::store(&node.words, &attrs, unsafe { node.data() });
        node.close(hot, self.tree.pending_flushes());
    }

    /// Changes range, attributes and data in one step that readers see whole or not at all. The new
    /// range stays within the entry's old one and the gaps on both sides.
    pub(crate) fn change<R>(
        &mut self,
        span: Span<T::Position>,
        attrs: T::Attrs,
        change: impl FnOnce(&mut T::Data) -> R,
    ) -> Option<R> {
        self.entry()?;
        let node = self.node();
        // SAFETY: an entry is not the last node.
        let next = unsafe { &*successor(node) };
        let gap_start = node.start.get() - node.gap.get();
        debug_assert!(!span.is_empty() && gap_start <= span.start && span.end <= next.start.get());
        let (old_start, old_end) = (node.start.get(), node.end.get());
        let mut section = WriteSection::new(node, self.tree.pending_flushes());
        // The kernel's code: should it panic, the tree is still what it was. The section has begun
        // already, since the data may be what a reader pins: see `WriteSection`.
        //
        // SAFETY: an entry holds data, and we have the tree to ourselves.
        let result = change(unsafe { node.data_mut() });
        node.start.update(span.start);
        node.end.update(span.end);
        section.attrs = attrs;
        drop(section);
        let pages = span.len();
        // SAFETY: both are linked.
        unsafe {
            if span.start != old_start {
                node.gap.set(span.start - gap_start);
                ops::raise(self.at);
            }
            if span.end != old_end {
                next.gap.set(next.start.get() - span.end);
                ops::raise(ptr::from_ref(next).cast_mut());
            }
        }
        self.tree.pages = self.tree.pages - (old_end - old_start) + pages;
        Some(result)
    }

    /// Changes the data, and whatever of it the words show to readers.
    pub(crate) fn change_data<R>(&mut self, change: impl FnOnce(&mut T::Data) -> R) -> Option<R> {
        let entry = self.entry()?;
        let (span, attrs) = (entry.span(), entry.attrs());
        self.change(span, attrs, change)
    }

    /// Links an entry into the gap before this place, and goes there. `span` lies within that gap.
    pub(crate) fn insert_before(
        &mut self,
        spare: FreeNode<T>,
        span: Span<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
    ) {
        let new = spare.raw();
        let next = self.node();
        let gap_start = next.start.get() - next.gap.get();
        debug_assert!(!span.is_empty() && gap_start <= span.start && span.end <= next.start.get());
        next.gap.set(next.start.get() - span.end);
        self.tree.link(spare, self.at, span, span.start - gap_start, attrs, data);
        self.at = new.as_ptr();
    }

    /// Cuts the entry here in two at `page`, strictly inside it, and goes to the right part, which
    /// gets `attrs` and the data that `cut` gives. Nothing happens at the end.
    pub(crate) fn divide(
        &mut self,
        page: T::Position,
        spare: FreeNode<T>,
        attrs: T::Attrs,
        cut: impl FnOnce(&mut T::Data) -> T::Data,
    ) {
        let Some(entry) = self.entry() else { return };
        let (end, new) = (entry.span().end, spare.raw());
        let node = self.node();
        debug_assert!(node.start.get() < page && page < end);
        // SAFETY: linked, not the last; and we have the tree to ourselves.
        let (next, data) = unsafe {
            let next = successor(node);
            let section = WriteSection::new(node, self.tree.pending_flushes());
            let data = cut(node.data_mut());
            node.end.set(page);
            drop(section);
            (next, data)
        };
        // No gap changes: the two parts meet, and what follows is where it was.
        self.tree.pages -= end - page;
        self.tree.link(spare, next, Span::new(page, end), Number::ZERO, attrs, data);
        self.at = new.as_ptr();
    }

    /// Makes one entry of the one here and the one before it, which meet; stays there. `join` takes
    /// the right one's data into the left one's. Gives the node that is left over.
    pub(crate) fn absorb_prev(
        &mut self,
        join: impl FnOnce(&mut T::Data, T::Data),
    ) -> Option<FreeNode<T>> {
        self.entry()?;
        let right = self.node();
        // SAFETY: linked, and the tree is borrowed; null or a linked node comes back.
        let left_at = unsafe { predecessor(right) };
        // SAFETY: as above.
        let left = unsafe { left_at.as_ref() }?;
        debug_assert!(left.end.get() == right.start.get());
        let span = Span::new(right.start.get(), right.end.get());
        let (loose, _) = self.tree.unlink(self.at, Number::ZERO);
        let (spare, data) = loose.empty();
        let section = WriteSection::new(left, self.tree.pending_flushes());
        left.end.set(span.end);
        // SAFETY: an entry holds data, and we have the tree to ourselves.
        unsafe { join(left.data_mut(), data) };
        drop(section);
        self.tree.pages += span.len();
        self.at = left_at;
        Some(spare)
    }

    /// Takes the entry here out and goes to the next one. `None` at the end.
    pub(crate) fn remove(&mut self) -> Option<DetachedNode<T>> {
        self.entry()?;
        let node = self.node();
        let freed = node.gap.get() + (node.end.get() - node.start.get());
        let (loose, next) = self.tree.unlink(self.at, freed);
        self.at = next;
        Some(loose)
    }
}
