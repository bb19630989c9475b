//! Cutting one entry into two.

use super::SplitMerge;
use crate::node::{FreeNode, NodeAlloc, Preallocated};
use crate::tree::{CursorMut, Tree};

impl<T: SplitMerge> CursorMut<'_, T> {
    /// Cuts the entry here at `page`, which lies strictly inside it, and goes to the right part.
    pub(crate) fn split_at(&mut self, page: T::Position, spare: FreeNode<T>) {
        let Some(entry) = self.entry() else { return };
        let (whole, attrs) = (entry.span(), entry.attrs());
        let pages = page - whole.start;
        self.divide(page, spare, T::advance(attrs, pages), |data| T::split(data, pages));
    }
}

impl<T: SplitMerge> Tree<T> {
    /// Cuts the entry that holds `page` there, if it does not begin there. Needs one node. O(log
    /// n).
    pub(crate) fn cut<A: NodeAlloc<T>>(
        &mut self,
        page: T::Position,
        nodes: &mut Preallocated<T, A>,
    ) {
        if self.find(page).is_none_or(|entry| entry.span().start == page) {
            return;
        }
        match nodes.take() {
            Some(spare) => self.cursor(page).split_at(page, spare),
            None => debug_assert!(false, "cut without its node"),
        }
    }
}
