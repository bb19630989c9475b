//! Removing entries, and parts of them.

use super::SplitMerge;
use crate::node::{DetachedNode, Node, NodeAlloc, NodeStore, Preallocated};
use crate::range::PageRange;
use crate::tree::{Below, CursorMut, EntryRef, Tree};

impl<T: SplitMerge> Tree<T> {
    /// Counts the free nodes that [`remove_range`](Self::remove_range) needs: one for each end of
    /// `range` that splits an entry. O(log n).
    pub(crate) fn remove_cost(&self, range: PageRange<T::Position>) -> usize {
        let splits = |entry: EntryRef<'_, T>, at: T::Position| {
            let whole = entry.range();
            usize::from(whole.start < at && at < whole.end && !entry.is_claim())
        };
        let ends = self.entries(range).ends();
        ends.map_or(0, |(first, last)| splits(first, range.start) + splits(last, range.end))
    }

    /// Takes all entries in `range` out of the tree, into the store, ascending.
    ///
    /// Needs a free node for each end of `range` that splits an entry: the part that is removed
    /// gets a node of its own, which never enters the tree; if one entry loses its middle, the
    /// second node is for its tail.
    ///
    /// ```text
    ///   whole            head stays         tail stays         both stay
    ///   [=entry=)        [====entry===)     [====entry===)     [======entry======)
    /// [---range---)           [--range-)  [-range-)                [-range-)
    ///                    [===)                    [====)       [===)       [=====)
    /// ```
    pub(crate) fn remove_range<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        store: &mut NodeStore<T, A>,
    ) {
        let mut cursor = self.cursor(range.start);
        while let Some(entry) = cursor.entry() {
            let whole = entry.range();
            if whole.start >= range.end {
                return;
            }
            let piece = whole.intersect(range);
            if entry.is_claim() {
                cursor.move_next();
            } else if piece == whole {
                if let Some(node) = cursor.remove() {
                    store.removed.push(node);
                }
            } else if !cursor.remove_piece(piece, store) {
                return;
            }
        }
    }
}

impl<T: SplitMerge> CursorMut<'_, T> {
    /// Takes `piece`, which is a part of the entry here, out of the tree, and moves to the first
    /// entry behind it. `below` says what becomes of a piece at the entry's beginning. Returns
    /// `None`, and nothing happens, without the nodes: one, or two if the piece is in the middle.
    pub(super) fn detach_piece<A: NodeAlloc<T>>(
        &mut self,
        piece: PageRange<T::Position>,
        below: Below,
        nodes: &mut Preallocated<T, A>,
    ) -> Option<DetachedNode<T>> {
        let entry = self.entry()?;
        let (whole, attrs, context) = (entry.range(), entry.attrs(), self.context());
        let Some(node) = nodes.take() else {
            debug_assert!(false, "detach_piece without its node");
            return None;
        };
        let head = PageRange::new(whole.start, piece.start);
        let tail = PageRange::new(piece.end, whole.end);
        let attrs_at = |page| T::advance(context, attrs, page - whole.start);
        let removed = if tail.is_empty() {
            let removed = self.change(head, attrs, Below::Free, |data| {
                T::split(context, data, whole, piece.start)
            });
            self.move_next();
            removed
        } else if head.is_empty() {
            self.change(tail, attrs_at(tail.start), below, |data| {
                let rest = T::split(context, data, whole, tail.start);
                core::mem::replace(data, rest)
            })
        } else {
            let Some(tail_node) = nodes.take() else {
                debug_assert!(false, "detach_piece without its second node");
                nodes.put(node);
                return None;
            };
            // Between the two steps the tail's pages are a gap.
            self.rearranged(|cursor| {
                let split = cursor.change(head, attrs, Below::Free, |data| {
                    let mut middle = T::split(context, data, whole, piece.start);
                    let above = PageRange::new(piece.start, whole.end);
                    let rest = T::split(context, &mut middle, above, tail.start);
                    // Asked for while a panic can still leave the entry whole.
                    let key = Node::<T>::key_of(&rest);
                    (middle, rest, key)
                });
                cursor.move_next();
                split.map(|(middle, rest, key)| {
                    cursor.insert_with_key(tail_node, tail, attrs_at(tail.start), rest, key);
                    middle
                })
            })
        };
        Some(node.fill(piece, attrs_at(piece.start), removed?))
    }

    /// Removes `piece`, which is a part of the entry here, into the store. Else as
    /// [`detach_piece`](Self::detach_piece). Returns `false`, and nothing happens, without the
    /// nodes.
    pub(super) fn remove_piece<A: NodeAlloc<T>>(
        &mut self,
        piece: PageRange<T::Position>,
        store: &mut NodeStore<T, A>,
    ) -> bool {
        let removed = self.detach_piece(piece, Below::Free, &mut store.free);
        let is_done = removed.is_some();
        store.removed.extend(removed);
        is_done
    }
}
