//! Iteration over the entries in order, and the cursor that changes them in place.

use core::marker::PhantomData;
use core::ptr;

use super::{Tree, link_ops};
use crate::node::{Content, DetachedNode, FreeNode, Node};
use crate::position::Number;
use crate::range::PageRange;

/// Returns the in-order successor, or null.
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
    let mut up = link_ops::parent(node);
    // SAFETY: as above.
    while let Some(parent) = unsafe { up.as_ref() } {
        if ptr::eq(parent.left.get(), below) {
            return up;
        }
        below = parent;
        up = link_ops::parent(parent);
    }
    ptr::null_mut()
}

/// Returns the in-order predecessor, or null.
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
    let mut up = link_ops::parent(node);
    // SAFETY: as above.
    while let Some(parent) = unsafe { up.as_ref() } {
        if ptr::eq(parent.right.get(), below) {
            return up;
        }
        below = parent;
        up = link_ops::parent(parent);
    }
    ptr::null_mut()
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
    pub(crate) fn range(self) -> PageRange<T::Position> {
        PageRange::new(self.node.start.get(), self.node.end.get())
    }

    #[inline]
    pub(crate) fn attrs(self) -> T::Attrs {
        self.node.attrs()
    }

    /// Returns the data, or `None` of a claim.
    #[inline]
    pub(crate) fn data(self) -> Option<&'t T::Data> {
        // SAFETY: only entries are given out, never the sentinel. An entry says itself whether it
        // holds data, and while the tree is borrowed nobody changes it.
        self.node.has_data().then(|| unsafe { self.node.data() })
    }

    /// Returns `true` if the entry is a claim, which holds no data.
    #[inline]
    pub(crate) fn is_claim(self) -> bool {
        !self.node.has_data()
    }

    /// Returns the number of free pages right before the entry.
    #[inline]
    pub(crate) fn gap_before(self) -> T::Position {
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
    #[inline]
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
    #[inline]
    pub(crate) fn ends(&self) -> Option<(EntryRef<'t, T>, EntryRef<'t, T>)> {
        let mut entries = self.clone();
        let first = entries.next()?;
        if first.range().end >= self.end {
            return Some((first, first));
        }
        Some((first, entries.next_back().unwrap_or(first)))
    }

    /// Returns the node if it is an entry that begins before the end, else null.
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

impl<T: Content> Tree<T> {
    /// Gives every entry that shares a page with `range` a new generation: readers without the lock
    /// find it changed. Returns `true` if there was any. O(log n + entries).
    pub(crate) fn invalidate(&mut self, range: PageRange<T::Position>) -> bool {
        self.leave_former_space();
        let mut any = false;
        for entry in self.entries(range) {
            any = true;
            let node = entry.node;
            node.write_begin();
            node.write_end(node.hot(), self.pending_flushes());
        }
        any
    }
}

/// Ends the section when something has panicked.
struct EndSection<'t, T: Content> {
    node: &'t Node<T>,
    pending_flushes: u32,
    /// The code has returned, so `key` has panicked: the node keeps the old key. It pins
    /// nothing, since `key` of data that can be pinned does not panic.
    in_key: bool,
}

impl<T: Content> Drop for EndSection<'_, T> {
    #[cold]
    fn drop(&mut self) {
        let node = self.node;
        let hot = if self.in_key {
            node.hot()
        } else {
            // SAFETY: an entry's data, and the borrow of the code that panicked has ended.
            node.store(&node.attrs(), Node::<T>::key_of(unsafe { node.data() }))
        };
        node.write_end(hot, self.pending_flushes);
    }
}

/// Begins a write section, and runs the kernel's code on the data in it. Returns the key for the
/// end of the section, which is the caller's. If the code panics, the section ends here, and the
/// entry is what it was but for its data.
///
/// The section begins *before* the code runs, since the code may drop data that a reader is about
/// to pin. While the generation is even, the key in the node is that of data which exists: that is
/// what `FoundKey::pinned` relies on.
///
/// # Safety
///
/// The node is that of an entry with data, and nobody else has the data borrowed.
#[inline(always)]
unsafe fn change_data<T: Content, R>(
    node: &Node<T>,
    pending_flushes: u32,
    change: impl FnOnce(&mut T::Data) -> R,
) -> (R, u64) {
    node.write_begin();
    let mut end = EndSection { node, pending_flushes, in_key: false };
    // SAFETY: initialised and borrowed by nobody, by the contract of this function.
    let data = unsafe { node.data_mut() };
    let result = change(data);
    end.in_key = true;
    let key = Node::<T>::key_of(data);
    core::mem::forget(end);
    (result, key)
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

    #[inline]
    pub(crate) fn context(&self) -> T::Context {
        self.tree.context
    }

    /// Returns the entry here, or `None` at the end.
    #[inline]
    pub(crate) fn entry(&self) -> Option<EntryRef<'_, T>> {
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(self.node()))
    }

    /// Returns the entry here for as long as the tree is borrowed.
    pub(crate) fn into_entry(self) -> Option<EntryRef<'t, T>> {
        // SAFETY: linked, and the cursor's borrow of the tree goes over to the entry.
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(unsafe { &*self.at }))
    }

    /// Returns the entry before this place.
    pub(crate) fn prev(&self) -> Option<EntryRef<'_, T>> {
        // SAFETY: linked; null or a linked node comes back.
        unsafe { predecessor(self.node()).as_ref() }.map(EntryRef::new)
    }

    /// Moves to the next entry, or to the end, where it stays.
    pub(crate) fn move_next(&mut self) {
        // SAFETY: linked; the last entry's successor is the sentinel.
        let next = unsafe { successor(self.node()) };
        if !next.is_null() {
            self.at = next;
        }
    }

    /// Moves to the entry before this place and returns it. If there is none, nothing moves.
    pub(crate) fn move_prev(&mut self) -> Option<EntryRef<'_, T>> {
        // SAFETY: linked.
        let prev = unsafe { predecessor(self.node()) };
        if prev.is_null() {
            return None;
        }
        self.at = prev;
        self.entry()
    }

    /// Replaces the attributes. Nothing happens at the end, and to a claim.
    pub(crate) fn set_attrs(&mut self, attrs: T::Attrs) {
        let Some(entry) = self.entry() else { return };
        let Some(data) = entry.data() else { return };
        let key = Node::<T>::key_of(data);
        let node = entry.node;
        node.write_begin();
        let hot = node.store(&attrs, key);
        node.write_end(hot, self.tree.pending_flushes());
    }

    /// Changes range, attributes and data in one step that readers see whole or not at all. The new
    /// range stays within the entry's old one and the gaps on both sides.
    pub(crate) fn change<R>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        change: impl FnOnce(&mut T::Data) -> R,
    ) -> Option<R> {
        self.entry()?.data()?;
        let node = self.node();
        // SAFETY: an entry is not the last node.
        let next = unsafe { &*successor(node) };
        let gap_start = node.start.get() - node.gap.get();
        debug_assert!(
            !range.is_empty() && gap_start <= range.start && range.end <= next.start.get()
        );
        let (old_start, old_end) = (node.start.get(), node.end.get());
        // SAFETY: an entry, and we have the tree to ourselves.
        let (result, key) = unsafe { change_data(node, self.tree.pending_flushes(), change) };
        node.start.update(range.start);
        node.end.update(range.end);
        let hot = node.store(&attrs, key);
        node.write_end(hot, self.tree.pending_flushes());
        let pages = range.len();
        // SAFETY: both are linked.
        unsafe {
            if range.start != old_start {
                node.gap.set(range.start - gap_start);
                link_ops::propagate(self.at);
            }
            if range.end != old_end {
                next.gap.set(next.start.get() - range.end);
                link_ops::propagate(ptr::from_ref(next).cast_mut());
            }
        }
        self.tree.pages = self.tree.pages - (old_end - old_start) + pages;
        Some(result)
    }

    /// Changes the data, and what the words show of it to readers.
    pub(crate) fn change_data<R>(&mut self, change: impl FnOnce(&mut T::Data) -> R) -> Option<R> {
        let entry = self.entry()?;
        let (range, attrs) = (entry.range(), entry.attrs());
        self.change(range, attrs, change)
    }

    /// Links an entry into the gap before this place, and moves there. `range` lies within that
    /// gap.
    pub(crate) fn insert_before(
        &mut self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: Option<T::Data>,
    ) {
        // The kernel's code runs before anything changes: it may panic.
        let key = data.as_ref().map_or(0, Node::<T>::key_of);
        let new = free.raw();
        let next = self.node();
        let gap_start = next.start.get() - next.gap.get();
        debug_assert!(
            !range.is_empty() && gap_start <= range.start && range.end <= next.start.get()
        );
        next.gap.set(next.start.get() - range.end);
        self.tree.link(free, self.at, range, range.start - gap_start, attrs, data, key);
        self.at = new.as_ptr();
    }

    /// Splits the entry here at `page`, strictly inside it, and moves to the right part, which gets
    /// `attrs` and the data that `split` returns. Nothing happens at the end.
    pub(crate) fn split_with(
        &mut self,
        page: T::Position,
        free: FreeNode<T>,
        attrs: T::Attrs,
        split: impl FnOnce(&mut T::Data) -> T::Data,
    ) {
        let Some(entry) = self.entry().filter(|entry| !entry.is_claim()) else { return };
        let (end, left_attrs, new) = (entry.range().end, entry.attrs(), free.raw());
        let node = self.node();
        debug_assert!(node.start.get() < page && page < end);
        // The right part's key is asked for while a panic can still leave the entry whole.
        let split = |left: &mut T::Data| {
            let right = split(left);
            let right_key = Node::<T>::key_of(&right);
            (right, right_key)
        };
        // SAFETY: an entry, and we have the tree to ourselves.
        let ((right, right_key), key) =
            unsafe { change_data(node, self.tree.pending_flushes(), split) };
        node.end.set(page);
        let hot = node.store(&left_attrs, key);
        node.write_end(hot, self.tree.pending_flushes());
        // SAFETY: linked, and not the last.
        let next = unsafe { successor(node) };
        // No gap changes: the two parts meet, and the next entry is where it was.
        self.tree.pages -= end - page;
        let range = PageRange::new(page, end);
        self.tree.link(free, next, range, Number::ZERO, attrs, Some(right), right_key);
        self.at = new.as_ptr();
    }

    /// Merges the entry here into the one before it, which it meets, and moves there. `merge` takes
    /// the left and the right one's data. Returns the right one's node, still with its data.
    pub(crate) fn merge_into_prev(
        &mut self,
        merge: impl FnOnce(&mut T::Data, &mut T::Data),
    ) -> Option<DetachedNode<T>> {
        self.entry()?.data()?;
        let right = self.node();
        // SAFETY: linked, and the tree is borrowed; null or a linked node comes back.
        let left_at = unsafe { predecessor(right) };
        // SAFETY: as above.
        let left = unsafe { left_at.as_ref() }?;
        debug_assert!(left.end.get() == right.start.get());
        if !left.has_data() {
            return None;
        }
        let range = PageRange::new(right.start.get(), right.end.get());
        let attrs = left.attrs();
        let pending_flushes = self.tree.pending_flushes();
        right.write_begin();
        let right_section = EndSection { node: right, pending_flushes, in_key: false };
        // SAFETY: entries, two of them, and we have the tree to ourselves.
        let ((), key) =
            unsafe { change_data(left, pending_flushes, |left| merge(left, right.data_mut())) };
        // The right one stays as it is, changing for readers, for good.
        core::mem::forget(right_section);
        let (detached, _) = self.tree.unlink(self.at, Number::ZERO);
        left.end.set(range.end);
        let hot = left.store(&attrs, key);
        left.write_end(hot, self.tree.pending_flushes());
        self.tree.pages += range.len();
        self.at = left_at;
        Some(detached)
    }

    /// Gives the claim here data and attributes: it is an entry like others from now on. Anywhere
    /// else nothing happens, and the data is dropped.
    pub(crate) fn fill_claim(&mut self, attrs: T::Attrs, data: T::Data) {
        let Some(claim) = self.entry().filter(|entry| entry.is_claim()) else { return };
        let key = Node::<T>::key_of(&data);
        let node = claim.node;
        node.write_begin();
        // SAFETY: a claim holds no data, and we have the tree to ourselves.
        unsafe { node.put_data(data) };
        let hot = node.store(&attrs, key);
        node.write_end(hot, self.tree.pending_flushes());
    }

    /// Removes the entry here and moves to the next one. `None` at the end.
    pub(crate) fn remove(&mut self) -> Option<DetachedNode<T>> {
        self.entry()?;
        let node = self.node();
        let freed = node.gap.get() + (node.end.get() - node.start.get());
        let (detached, next) = self.tree.unlink(self.at, freed);
        self.at = next;
        Some(detached)
    }
}
