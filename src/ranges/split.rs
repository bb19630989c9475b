//! Cutting one area into two.

use super::Area;
use crate::node::{NodeAlloc, Reservation, Spare};
use crate::tree::{CursorMut, Tree};

impl<T: Area> CursorMut<'_, T> {
    /// Cuts the area here at `page`, which lies strictly inside it, and goes to the right part.
    pub(crate) fn split_at(&mut self, page: T::Position, spare: Spare<T>) {
        let Some(area) = self.area() else { return };
        let (whole, attrs) = (area.span(), area.attrs());
        let pages = page - whole.start;
        self.divide(page, spare, T::advance(attrs, pages), |data| T::split(data, pages));
    }
}

impl<T: Area> Tree<T> {
    /// Cuts the area that holds `page` there, if it does not begin there. Needs one node. O(log n).
    pub(crate) fn cut<A: NodeAlloc<T>>(&mut self, page: T::Position, nodes: &mut Reservation<T, A>) {
        if self.find(page).is_none_or(|area| area.span().start == page) {
            return;
        }
        match nodes.take() {
            Some(spare) => self.cursor(page).split_at(page, spare),
            None => debug_assert!(false, "cut without its node"),
        }
    }
}
