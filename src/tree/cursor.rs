//! The cursor, which changes entries in place.

use core::ptr;

use super::Tree;
use super::entries::{EntryRef, predecessor, successor};
use crate::error::Error;
use crate::invalidated::{InvalidatedParts, NodeState};
use crate::node::{Content, DetachedNode, FreeNode, Node};
use crate::position::Number;
use crate::range::PageRange;

/// An entry's data, and the pages that it is of.
pub(crate) type DataOver<'a, T> =
    (&'a mut <T as Content>::Data, PageRange<<T as Content>::Position>);

impl<T: Content<Position = u64>> Tree<T> {
    /// Gives every entry that shares a page with `range` a new generation: readers without the lock
    /// find it changed. Those who have looked up a page outside `range` find in `parts`, if there
    /// is such a thing, that it is as it was. Returns `true` if there was any entry. O(log n +
    /// entries).
    pub(crate) fn invalidate(
        &mut self,
        range: PageRange,
        parts: Option<&InvalidatedParts>,
    ) -> bool {
        self.leave_former_space();
        let mut any = false;
        for entry in self.entries(range) {
            any = true;
            let node = entry.node;
            if let Some(parts) = parts
                && entry.range().intersect(range) != entry.range()
            {
                let (tree, generation) = (self.number, node.generation());
                let node = ptr::from_ref(node).cast();
                parts.note(NodeState { tree, node, generation }, range);
            }
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

/// The fate of the pages right before an entry that changes its range.
#[derive(Clone, Copy)]
pub(crate) enum Below {
    /// Searches for a gap may find them.
    Free,
    /// The next change of the tree puts an entry there, so that no largest gap needs to be
    /// propagated.
    Taken,
}

/// A place in the tree where it can be changed: at an entry, or at the end behind the last one.
pub(crate) struct CursorMut<'t, T: Content> {
    pub(super) tree: &'t mut Tree<T>,
    /// A linked node; the sentinel stands for the end.
    at: *mut Node<T>,
    /// The nodes before and after `at`, or null where nobody has asked. Each step to a neighbour
    /// takes branches that the processor cannot predict, and an operation asks several times.
    before: *mut Node<T>,
    after: *mut Node<T>,
}

impl<'t, T: Content> CursorMut<'t, T> {
    pub(super) fn new(tree: &'t mut Tree<T>, at: *mut Node<T>) -> Self {
        CursorMut { tree, at, before: ptr::null_mut(), after: ptr::null_mut() }
    }

    pub(super) fn node(&self) -> &Node<T> {
        // SAFETY: linked, by the invariant of `at`.
        unsafe { &*self.at }
    }

    pub(crate) fn context(&self) -> T::Context {
        self.tree.context
    }

    /// Returns the entry here, or `None` at the end.
    pub(crate) fn entry(&self) -> Option<EntryRef<'_, T>> {
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(self.node()))
    }

    /// Returns the entry here for as long as the tree is borrowed.
    pub(crate) fn into_entry(self) -> Option<EntryRef<'t, T>> {
        // SAFETY: linked, and the cursor's borrow of the tree goes over to the entry.
        (!self.tree.is_sentinel(self.at)).then(|| EntryRef::new(unsafe { &*self.at }))
    }

    /// Returns the node before this place, or null.
    #[inline(never)]
    fn node_before(&mut self) -> *mut Node<T> {
        if self.before.is_null() {
            // SAFETY: linked.
            self.before = unsafe { predecessor(self.node()) };
        }
        self.before
    }

    /// Returns the node after the one here, or null at the end.
    #[inline(never)]
    pub(super) fn node_after(&mut self) -> *mut Node<T> {
        if self.after.is_null() {
            // SAFETY: linked.
            self.after = unsafe { successor(self.node()) };
        }
        self.after
    }

    /// Returns the entry before this place.
    pub(crate) fn prev(&mut self) -> Option<EntryRef<'_, T>> {
        // SAFETY: null or a linked node.
        unsafe { self.node_before().as_ref() }.map(EntryRef::new)
    }

    /// Moves to the next entry, or to the end, where it stays.
    pub(crate) fn move_next(&mut self) {
        let next = self.node_after();
        if !next.is_null() {
            self.before = core::mem::replace(&mut self.at, next);
            self.after = ptr::null_mut();
        }
    }

    /// Moves to the entry before this place and returns it. If there is none, nothing moves.
    pub(crate) fn move_prev(&mut self) -> Option<EntryRef<'_, T>> {
        let prev = self.node_before();
        if prev.is_null() {
            return None;
        }
        self.after = core::mem::replace(&mut self.at, prev);
        self.before = ptr::null_mut();
        self.entry()
    }

    /// Replaces the attributes. Nothing happens at the end, and to a claim.
    pub(crate) fn set_attrs(&mut self, attrs: T::Attrs) {
        let Some(entry) = self.entry() else { return };
        let Some(data) = entry.data() else { return };
        let key = Node::<T>::key_of(data);
        let node = self.node();
        let former = self.tree.guard_gap(node);
        node.write_begin();
        let hot = node.store(&attrs, key);
        self.tree.end_with_attrs(node, hot, former);
    }

    /// Changes range, attributes and data in one step that readers see whole or not at all. The new
    /// range stays within the entry's old one and the gaps on both sides. `below` says what becomes
    /// of the pages before it.
    pub(crate) fn change<R>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        below: Below,
        change: impl FnOnce(&mut T::Data) -> R,
    ) -> Option<R> {
        self.entry()?.data()?;
        let old_end = self.node().end.get();
        // Where the end stays nobody asks what comes after it.
        let after = if range.end == old_end { ptr::null_mut() } else { self.node_after() };
        let node = self.node();
        // SAFETY: null or linked.
        let next = unsafe { after.as_ref() };
        let former = self.tree.guard_gap(node);
        let gap_start = node.start.get() - self.tree.free_before(node);
        debug_assert!(
            !range.is_empty()
                && gap_start <= range.start
                && next.is_none_or(|next| range.end <= next.start.get())
        );
        let old_start = node.start.get();
        // SAFETY: an entry, and we have the tree to ourselves.
        let (result, key) = unsafe { change_data(node, self.tree.pending_flushes(), change) };
        // A gap that shrinks does so before readers may see what is there instead, and one that
        // grows after they have seen the last of what was there: see `lookup::next`.
        if let Some(next) = next
            && range.end > old_end
        {
            self.tree.set_free_before(next, next.start.get() - range.end);
        }
        node.start.set(range.start);
        node.end.set(range.end);
        let hot = node.store(&attrs, key);
        let pages = range.len();
        if range.start == old_start {
            self.tree.end_with_attrs(node, hot, former);
        } else {
            let free = range.start - gap_start;
            match below {
                Below::Free => self.tree.end_with_free(node, hot, free),
                Below::Taken => {
                    node.gap.set(self.tree.gap_of(node, hot, free));
                    node.write_end(hot, self.tree.pending_flushes());
                }
            }
        }
        if let Some(next) = next
            && range.end < old_end
        {
            self.tree.set_free_before(next, next.start.get() - range.end);
        }
        self.tree.pages = self.tree.pages - (old_end - old_start) + pages;
        Some(result)
    }

    /// Changes the data, and what the words show of it to readers.
    pub(crate) fn change_data<R>(&mut self, change: impl FnOnce(&mut T::Data) -> R) -> Option<R> {
        let attrs = self.entry()?.attrs();
        self.change_contents(attrs, change)
    }

    /// Changes the data of an entry of which readers without the lock see no more than the words:
    /// its key is 0 before and after. So it keeps its generation.
    #[cfg(feature = "guest")]
    pub(crate) fn change_unseen<R>(&mut self, change: impl FnOnce(&mut T::Data) -> R) -> Option<R> {
        self.entry()?.data()?;
        let node = self.node();
        if node.has_key() {
            return self.change_data(change);
        }
        // SAFETY: an entry, and we have the tree to ourselves. Without a key nobody has pinned what
        // is in the data; and if it has one afterwards, readers learn of that in a write section.
        let data = unsafe { node.data_mut() };
        let result = change(data);
        if Node::<T>::key_of(data) != 0 {
            self.change_data(|_| ());
        }
        Some(result)
    }

    /// Changes attributes and data, as [`change`](Self::change) does, where the range stays.
    pub(crate) fn change_contents<R>(
        &mut self,
        attrs: T::Attrs,
        change: impl FnOnce(&mut T::Data) -> R,
    ) -> Option<R> {
        self.entry()?.data()?;
        let node = self.node();
        let former = self.tree.guard_gap(node);
        // SAFETY: an entry, and we have the tree to ourselves.
        let (result, key) = unsafe { change_data(node, self.tree.pending_flushes(), change) };
        let hot = node.store(&attrs, key);
        self.tree.end_with_attrs(node, hot, former);
        Some(result)
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
        self.insert_keyed(free, range, attrs, data, key);
    }

    /// Links an entry as [`insert_before`](Self::insert_before) does, with the key of `data`: runs
    /// none of the kernel's code.
    pub(crate) fn insert_with_key(
        &mut self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        key: u64,
    ) {
        self.insert_keyed(free, range, attrs, Some(data), key);
    }

    fn insert_keyed(
        &mut self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: Option<T::Data>,
        key: u64,
    ) {
        let new = free.raw();
        let next = self.node();
        let gap_start = next.start.get() - self.tree.free_before(next);
        debug_assert!(
            !range.is_empty() && gap_start <= range.start && range.end <= next.start.get()
        );
        self.tree.link(free, self.at, range, range.start - gap_start, attrs, data, key);
        self.after = core::mem::replace(&mut self.at, new.as_ptr());
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
        let next = self.node_after();
        // No gap changes: the two parts meet, and the next entry is where it was.
        self.tree.pages -= end - page;
        let range = PageRange::new(page, end);
        self.tree.link(free, next, range, Number::ZERO, attrs, Some(right), right_key);
        self.before = core::mem::replace(&mut self.at, new.as_ptr());
    }

    /// Merges the entry here into the one before it, if `check` allows it of the two, and moves
    /// there. `merge` takes the right one's data into the left one's. Returns the right one's node,
    /// still with its data.
    ///
    /// # Errors
    ///
    /// [`Error::NotAdjacent`] if there are no two, and those of `check`.
    pub(crate) fn merge_into_prev(
        &mut self,
        check: impl FnOnce(EntryRef<'_, T>, EntryRef<'_, T>) -> Result<(), Error>,
        merge: impl FnOnce(DataOver<'_, T>, DataOver<'_, T>),
    ) -> Result<DetachedNode<T>, Error> {
        // A gap says so without a step to the node before, which no cache may hold.
        if self.node().gap.get() > Number::ZERO {
            return Err(Error::NotAdjacent);
        }
        let left = self.node_before();
        // SAFETY: both are null or linked.
        let merged = unsafe { self.merge(left, self.at, check, merge) }?;
        (self.at, self.before) = (left, ptr::null_mut());
        Ok(merged)
    }

    /// Merges the next entry into the one here, as [`merge_into_prev`](Self::merge_into_prev)
    /// does, and stays.
    ///
    /// # Errors
    ///
    /// Those of [`merge_into_prev`](Self::merge_into_prev).
    pub(crate) fn merge_next_into(
        &mut self,
        check: impl FnOnce(EntryRef<'_, T>, EntryRef<'_, T>) -> Result<(), Error>,
        merge: impl FnOnce(DataOver<'_, T>, DataOver<'_, T>),
    ) -> Result<DetachedNode<T>, Error> {
        let right = self.node_after();
        // SAFETY: both are null or linked.
        let merged = unsafe { self.merge(self.at, right, check, merge) }?;
        self.after = ptr::null_mut();
        Ok(merged)
    }

    /// Merges the next entry into the one here, as [`merge_next_into`](Self::merge_next_into) does.
    /// If that may not be, moves to the next entry, or to the end.
    ///
    /// # Errors
    ///
    /// Those of [`merge_into_prev`](Self::merge_into_prev).
    pub(crate) fn merge_next_or_move(
        &mut self,
        check: impl FnOnce(EntryRef<'_, T>, EntryRef<'_, T>) -> Result<(), Error>,
        merge: impl FnOnce(DataOver<'_, T>, DataOver<'_, T>),
    ) -> Result<DetachedNode<T>, Error> {
        let merged = self.merge_next_into(check, merge);
        if merged.is_err() {
            self.move_next();
        }
        merged
    }

    /// Merges two nodes that follow each other.
    ///
    /// # Safety
    ///
    /// They are linked, or null.
    unsafe fn merge(
        &mut self,
        left_at: *mut Node<T>,
        right_at: *mut Node<T>,
        check: impl FnOnce(EntryRef<'_, T>, EntryRef<'_, T>) -> Result<(), Error>,
        merge: impl FnOnce(DataOver<'_, T>, DataOver<'_, T>),
    ) -> Result<DetachedNode<T>, Error> {
        if left_at.is_null() || right_at.is_null() || self.tree.is_sentinel(right_at) {
            return Err(Error::NotAdjacent);
        }
        // SAFETY: linked, by the contract of this function; the left one is not the sentinel, which
        // is the last.
        let (left, right) = unsafe { (&*left_at, &*right_at) };
        check(EntryRef::new(left), EntryRef::new(right))?;
        if !left.has_data() || !right.has_data() {
            return Err(Error::AttributesDiffer);
        }
        let left_range = PageRange::new(left.start.get(), left.end.get());
        let right_range = PageRange::new(right.start.get(), right.end.get());
        debug_assert!(left_range.end == right_range.start);
        let attrs = left.attrs();
        let pending_flushes = self.tree.pending_flushes();
        right.write_begin();
        let right_section = EndSection { node: right, pending_flushes, in_key: false };
        let both = |left: &mut T::Data| {
            // SAFETY: an entry with data, another than the left one, and we have the tree to
            // ourselves.
            let right = unsafe { right.data_mut() };
            merge((left, left_range), (right, right_range));
        };
        // SAFETY: as above.
        let ((), key) = unsafe { change_data(left, pending_flushes, both) };
        // The right one stays as it is, changing for readers, for good.
        core::mem::forget(right_section);
        // Who has found the right one comes back for its pages, or for what follows them.
        if self.tree.last_above.get() == right_at {
            self.tree.last_above.set(left_at);
        }
        let (detached, _) = self.tree.unlink(right_at, Number::ZERO);
        left.end.set(right_range.end);
        let hot = left.store(&attrs, key);
        left.write_end(hot, self.tree.pending_flushes());
        self.tree.pages += right_range.len();
        Ok(detached)
    }

    /// Gives the claim here data and attributes: it is an entry like others from now on. Anywhere
    /// else nothing happens, and the data is dropped.
    pub(crate) fn fill_claim(&mut self, attrs: T::Attrs, data: T::Data) {
        let Some(claim) = self.entry().filter(|entry| entry.is_claim()) else { return };
        let key = Node::<T>::key_of(&data);
        let node = claim.node;
        let former = self.tree.guard_gap(node);
        node.write_begin();
        // SAFETY: a claim holds no data, and we have the tree to ourselves.
        unsafe { node.put_data(data) };
        let hot = node.store(&attrs, key);
        self.tree.end_with_attrs(node, hot, former);
    }

    /// Removes the entry here and moves to the next one. `None` at the end.
    pub(crate) fn remove(&mut self) -> Option<DetachedNode<T>> {
        self.entry()?;
        let node = self.node();
        let freed = self.tree.free_before(node) + (node.end.get() - node.start.get());
        let (detached, next) = self.tree.unlink(self.at, freed);
        (self.at, self.after) = (next, ptr::null_mut());
        Some(detached)
    }
}
