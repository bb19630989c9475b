//! Giving entries other attributes.

use super::SplitMerge;
use super::merge::{check_merge, merge};
use crate::error::Error;
use crate::node::{NodeAlloc, NodeStore};
use crate::range::PageRange;
use crate::tree::{EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Gives every entry in `range` the attributes that `new` returns for the whole entry. Needs a
    /// free node for each end of `range` that splits an entry which changes.
    ///
    /// Entries that keep their attributes are neither split nor merged. Each part that changes is
    /// reported to `changed` with its old attributes, then merged with its left and with its right
    /// neighbour where the policy allows, as Linux' `vma_modify` does.
    pub(crate) fn modify<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        store: &mut NodeStore<T, A>,
        new: &mut impl FnMut(EntryRef<'_, T>) -> T::Attrs,
        changed: &mut impl FnMut(EntryRef<'_, T>, T::Attrs),
    ) {
        let context = self.context();
        let mut cursor = self.cursor(range.start);
        while let Some(entry) = cursor.entry() {
            let (whole, old) = (entry.range(), entry.attrs());
            if whole.start >= range.end {
                return;
            }
            let attrs = new(entry);
            if attrs == old {
                cursor.move_next();
                continue;
            }
            let piece = whole.intersect(range);
            let piece_offset = piece.start - whole.start;
            if !cursor.isolate(piece, &mut store.free) {
                return;
            }
            cursor.set_attrs(T::advance(context, attrs, piece_offset));
            if let Some(entry) = cursor.entry() {
                changed(entry, T::advance(context, old, piece_offset));
            }
            let _ = cursor.merge_prev(store);
            // Not with an entry that is still to change: it would be passed over. It merges with
            // this one when its turn comes.
            let merged = cursor.merge_next_or_move(
                |left, right| {
                    if right.range().start < range.end && new(right) != right.attrs() {
                        return Err(Error::AttributesDiffer);
                    }
                    check_merge(T::can_merge, context, left, right)
                },
                |left, right| merge::<T>(context, left, right),
            );
            if let Ok(node) = merged {
                store.put_merged(node);
                cursor.move_next();
            }
        }
    }
}
