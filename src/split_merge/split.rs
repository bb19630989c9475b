//! Splitting entries.

use super::SplitMerge;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::PageRange;
use crate::tree::{CursorMut, EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Splits the entry that holds `page` there, if it does not begin there. Needs one free node.
    /// O(log n).
    pub(crate) fn split_at<A: NodeAlloc<T>>(
        &mut self,
        page: T::Position,
        nodes: &mut Preallocated<T, A>,
    ) {
        let mut cursor = self.cursor(page);
        if cursor.entry().is_some_and(|entry| entry.range().start < page) {
            cursor.split_at(page, nodes);
        }
    }
}

impl<T: SplitMerge> CursorMut<'_, T> {
    /// Splits the entry here at `page`, which lies strictly inside it, and moves to the right part.
    /// Returns `false`, and nothing happens, without a node.
    fn split_at<A: NodeAlloc<T>>(
        &mut self,
        page: T::Position,
        nodes: &mut Preallocated<T, A>,
    ) -> bool {
        let Some(entry) = self.entry() else { return false };
        let (whole, attrs, context) = (entry.range(), entry.attrs(), self.context());
        let Some(free) = nodes.take() else {
            debug_assert!(false, "split_at without its node");
            return false;
        };
        let right = T::advance(context, attrs, page - whole.start);
        self.split_with(page, free, right, |data| T::split(context, data, whole, page));
        true
    }

    /// Splits the entry here at the ends of `piece`, which is a part of it, and moves to the entry
    /// over `piece`. Returns `false` without the nodes: one for each end that splits it.
    pub(crate) fn isolate<A: NodeAlloc<T>>(
        &mut self,
        piece: PageRange<T::Position>,
        nodes: &mut Preallocated<T, A>,
    ) -> bool {
        let Some(whole) = self.entry().map(EntryRef::range) else { return false };
        if whole.start < piece.start && !self.split_at(piece.start, nodes) {
            return false;
        }
        if piece.end < whole.end {
            if !self.split_at(piece.end, nodes) {
                return false;
            }
            self.move_prev();
        }
        true
    }
}
