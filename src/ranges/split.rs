//! Cutting one area into two.

use super::Area;
use crate::node::Spare;
use crate::range::Span;
use crate::tree::CursorMut;

impl<T: Area> CursorMut<'_, T> {
    /// Cuts the area here at `page`, which lies strictly inside it, and goes to the right part.
    pub(crate) fn split_at(&mut self, page: u64, spare: Spare<T>) {
        let Some(area) = self.area() else { return };
        let (whole, attrs) = (area.span(), area.attrs());
        let pages = page - whole.start;
        let left = Span::new(whole.start, page);
        let Some(data) = self.change(left, attrs, |data| T::split(data, pages)) else { return };
        self.move_next();
        self.insert_before(spare, Span::new(page, whole.end), T::advance(attrs, pages), data);
    }
}
