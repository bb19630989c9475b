//! Changing the attributes of a range.

use super::SplitMerge;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::Span;
use crate::tree::{EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Gives every entry in `span`, cut to it, the attributes that `new` says for the whole entry.
    /// Needs a node for each end of `span` that cuts an entry which changes.
    ///
    /// Entries that keep their attributes are not touched: neither split nor joined. Each part that
    /// changes is reported to `changed` with its old attributes, then joined with its left and with
    /// its right neighbour where policy allows, as Linux' `vma_modify` does.
    pub(crate) fn modify<A: NodeAlloc<T>>(
        &mut self,
        span: Span<T::Position>,
        nodes: &mut Preallocated<T, A>,
        new: &mut impl FnMut(EntryRef<'_, T>) -> T::Attrs,
        changed: &mut impl FnMut(EntryRef<'_, T>, T::Attrs),
    ) {
        let mut cursor = self.cursor(span.start);
        while let Some(entry) = cursor.entry() {
            let (whole, old) = (entry.span(), entry.attrs());
            if whole.start >= span.end {
                return;
            }
            let attrs = new(entry);
            if attrs == old {
                cursor.move_next();
                continue;
            }
            let piece = whole.intersect(span);
            let ahead = piece.start - whole.start;
            if piece.start > whole.start {
                let Some(spare) = nodes.take() else {
                    debug_assert!(false, "modify without its nodes");
                    return;
                };
                cursor.split_at(piece.start, spare);
            }
            if piece.end < whole.end {
                let Some(spare) = nodes.take() else {
                    debug_assert!(false, "modify without its nodes");
                    return;
                };
                cursor.split_at(piece.end, spare);
                cursor.move_prev();
            }
            cursor.set_attrs(T::advance(attrs, ahead));
            if let Some(entry) = cursor.entry() {
                changed(entry, T::advance(old, ahead));
            }
            let _ = cursor.join_prev(nodes);
            cursor.move_next();
            // Not with an entry that is still to change: it would be passed over. It joins this
            // one.
            let changes_too = cursor
                .entry()
                .is_some_and(|next| next.span().start < span.end && new(next) != next.attrs());
            if !changes_too && cursor.join_prev(nodes).is_ok() {
                cursor.move_next();
            }
        }
    }
}
