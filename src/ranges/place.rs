//! Putting an entry into a free range.

use super::join::may_join;
use super::{Merge, SplitMerge};
use crate::node::{NodeAlloc, Preallocated};
use crate::range::Span;
use crate::tree::{EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Adds an entry over the free range `span` and joins it with its neighbours where `merge` and
    /// policy allow. Needs one node; what joining frees goes to `nodes`. Gives the entry that holds
    /// `span` now. O(log n).
    pub(crate) fn place<A: NodeAlloc<T>>(
        &mut self,
        span: Span<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        merge: Merge,
        nodes: &mut Preallocated<T, A>,
    ) -> Option<EntryRef<'_, T>> {
        let mut cursor = self.cursor(span.start);
        if merge.left() {
            let joined = cursor.prev().filter(|left| {
                left.span().end == span.start
                    && T::joins((&left.attrs(), left.data()), left.span().len(), (&attrs, &data))
                        .is_ok()
            });
            if let Some(left) = joined {
                let (start, pages, attrs) = (left.span().start, left.span().len(), left.attrs());
                cursor.move_prev();
                cursor.change(Span::new(start, span.end), attrs, |left| T::join(left, pages, data));
                if merge.right() {
                    let _ = cursor.join_next(nodes);
                }
                return cursor.into_entry();
            }
        }
        if merge.right() {
            let joined = cursor.entry().filter(|right| {
                right.span().start == span.end
                    && T::joins((&attrs, &data), span.len(), (&right.attrs(), right.data())).is_ok()
            });
            if let Some(right) = joined {
                let whole = Span::new(span.start, right.span().end);
                cursor.change(whole, attrs, |right| {
                    let old = core::mem::replace(right, data);
                    T::join(right, span.len(), old);
                });
                return cursor.into_entry();
            }
        }
        let Some(spare) = nodes.take() else {
            debug_assert!(false, "place without its node");
            return None;
        };
        cursor.insert_before(spare, span, attrs, data);
        cursor.into_entry()
    }

    /// Joins the entries that meet at `page`. O(log n).
    pub(crate) fn join_at<A: NodeAlloc<T>>(
        &mut self,
        page: T::Position,
        nodes: &mut Preallocated<T, A>,
    ) -> Result<(), crate::Error> {
        let mut cursor = self.cursor(page);
        match cursor.entry() {
            Some(entry) if entry.span().start == page => cursor.join_prev(nodes),
            _ => Err(crate::Error::NotAdjacent),
        }
    }

    /// Whether [`join_at`](Self::join_at) would join. O(log n).
    pub(crate) fn joins_at(&self, page: T::Position) -> Result<(), crate::Error> {
        match (self.find_before(page), self.find(page)) {
            (Some(left), Some(right)) => may_join(T::joins, left, right),
            _ => Err(crate::Error::NotAdjacent),
        }
    }
}
