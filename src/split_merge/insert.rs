//! Adding entries, to free ranges and in the place of others.

use super::merge::{merges_above, merges_below};
use super::{Merge, SplitMerge};
use crate::node::{Node, NodeAlloc, NodeStore};
use crate::range::PageRange;
use crate::tree::{Below, CursorMut, EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Adds an entry over the free range `range` and merges it with its neighbours where `merge`
    /// and the policy allow. Needs one free node. Returns the entry that holds `range` now. O(log
    /// n).
    pub(crate) fn insert<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        merge: Merge,
        store: &mut NodeStore<T, A>,
    ) -> Option<EntryRef<'_, T>> {
        self.cursor(range.start).insert(range, attrs, data, merge, store)
    }

    /// Adds an entry over `range` in the place of all entries there, which go into the store,
    /// ascending. Does what [`remove_range`](Self::remove_range) and [`insert`](Self::insert) do,
    /// and needs as many free nodes; but where whole entries go, the new one takes the place of the
    /// last of them in the tree. There are no claims in `range`. O(log n + entries that go).
    ///
    /// ```text
    ///   [==head==)[=entry=)   [=entry=)  [===tail===)
    ///          [--------------range---------)
    ///   [=head=)[=============new===========)[=tail=)
    /// ```
    pub(crate) fn replace_range<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        merge: Merge,
        store: &mut NodeStore<T, A>,
    ) -> Option<EntryRef<'_, T>> {
        // In between, nothing is where something was and will be.
        self.rearranged(|tree| tree.replace_in_steps(range, attrs, data, merge, store))
    }

    fn replace_in_steps<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        merge: Merge,
        store: &mut NodeStore<T, A>,
    ) -> Option<EntryRef<'_, T>> {
        // The kernel's code runs before anything changes: it may panic.
        let key = Node::<T>::key_of(&data);
        let mut cursor = self.cursor(range.start);
        let next = loop {
            let whole = cursor.entry().map(EntryRef::range).filter(|whole| whole.start < range.end);
            let Some(whole) = whole else { break None };
            let piece = whole.intersect(range);
            if piece != whole {
                if !cursor.remove_piece(piece, store) || range.end < whole.end {
                    break None;
                }
                continue;
            }
            let next = cursor.next_range();
            if range.end < next.end {
                break Some(next);
            }
            store.removed.extend(cursor.remove());
        };
        let Some(next) = next else {
            return cursor.insert(range, attrs, data, merge, store);
        };
        let Some(free) = store.free.take() else {
            debug_assert!(false, "replace_range without its node");
            return None;
        };
        let mut tail = None;
        if next.start < range.end {
            cursor.move_next();
            tail = cursor.detach_piece(next.intersect(range), Below::Taken, &mut store.free);
            cursor.move_prev();
        }
        match cursor.replace(free, range, attrs, data, key) {
            Ok(node) => store.removed.push(node),
            Err(free) => store.free.put(free),
        }
        store.removed.extend(tail);
        if merge.left() {
            let _ = cursor.merge_prev(store);
        }
        if merge.right() {
            let _ = cursor.merge_next(store);
        }
        cursor.into_entry()
    }

    /// Claims the free range `range`. Needs one free node. O(log n).
    pub(crate) fn insert_claim<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        store: &mut NodeStore<T, A>,
    ) {
        match store.free.take() {
            Some(free) => self.cursor(range.start).insert_before(free, range, attrs, None),
            None => debug_assert!(false, "insert_claim without its node"),
        }
    }
}

impl<'t, T: SplitMerge> CursorMut<'t, T> {
    /// Adds an entry over `range` here, in a gap: see [`Tree::insert`].
    fn insert<A: NodeAlloc<T>>(
        mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        mut data: T::Data,
        merge: Merge,
        store: &mut NodeStore<T, A>,
    ) -> Option<EntryRef<'t, T>> {
        let context = self.context();
        if merge.left()
            && let Some(left) = self.prev()
            && merges_above(context, left, range, (&attrs, &data))
        {
            let (left_range, left_attrs) = (left.range(), left.attrs());
            self.move_prev();
            let both = PageRange::new(left_range.start, range.end);
            self.change(both, left_attrs, Below::Free, |left| {
                T::merge(context, left, left_range, &mut data, range);
            });
            store.put_unused(range, attrs, data);
            if merge.right() {
                let _ = self.merge_next(store);
            }
            return self.into_entry();
        }
        if merge.right()
            && let Some(right) = self.entry()
            && merges_below(context, range, (&attrs, &data), right)
        {
            let (right_range, right_attrs) = (right.range(), right.attrs());
            let both = PageRange::new(range.start, right_range.end);
            self.change(both, attrs, Below::Free, |right| {
                core::mem::swap(right, &mut data);
                T::merge(context, right, range, &mut data, right_range);
            });
            store.put_unused(right_range, right_attrs, data);
            return self.into_entry();
        }
        let Some(free) = store.free.take() else {
            debug_assert!(false, "insert without its node");
            return None;
        };
        self.insert_before(free, range, attrs, Some(data));
        self.into_entry()
    }
}
