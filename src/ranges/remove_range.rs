//! Taking a range out.

use super::SplitMerge;
use crate::node::{NodeAlloc, Preallocated, Removed};
use crate::range::Span;
use crate::tree::Tree;

impl<T: SplitMerge> Tree<T> {
    /// Nodes that [`remove_range`](Self::remove_range) needs: one for each part that is cut off and
    /// gathered, one more where the rest of an entry becomes an entry. At most 2. O(log n).
    #[cfg(feature = "range-map")]
    pub(crate) fn remove_cost(&self, span: Span<T::Position>) -> usize {
        let mut entries = self.entries(span);
        let Some(first) = entries.next() else { return 0 };
        let last =
            if first.span().end < span.end { entries.next_back().unwrap_or(first) } else { first };
        usize::from(first.span().start < span.start) + usize::from(last.span().end > span.end)
    }

    /// Takes all of `span` out of the tree, into `out`, ascending.
    ///
    /// ```text
    ///   whole            head stays         tail stays         both stay
    ///   [=entry=)         [====entry===)      [====entry===)      [======entry======)
    /// [---span---)            [--span--)  [-span--)                [-span-)
    ///                    [==)                     [===)        [===)       [====)
    /// ```
    pub(crate) fn remove_range<A: NodeAlloc<T>>(
        &mut self,
        span: Span<T::Position>,
        nodes: &mut Preallocated<T, A>,
        out: &mut Removed<T, A>,
    ) {
        let mut cursor = self.cursor(span.start);
        while let Some(entry) = cursor.entry() {
            let (whole, attrs) = (entry.span(), entry.attrs());
            if whole.start >= span.end {
                return;
            }
            let piece = whole.intersect(span);
            if piece == whole {
                if let Some(loose) = cursor.remove() {
                    out.push(loose);
                }
                continue;
            }
            let Some(spare) = nodes.take() else {
                debug_assert!(false, "remove_range without its nodes");
                return;
            };
            let (head, tail) = (piece.start - whole.start, piece.end - whole.start);
            let piece_attrs = T::advance(attrs, head);
            if piece.end == whole.end {
                let keep = Span::new(whole.start, piece.start);
                let cut = cursor.change(keep, attrs, |data| T::split(data, head));
                if let Some(data) = cut {
                    out.push(spare.fill(piece, piece_attrs, data));
                }
                cursor.move_next();
            } else if piece.start == whole.start {
                let keep = Span::new(piece.end, whole.end);
                let cut = cursor.change(keep, T::advance(attrs, tail), |data| {
                    let rest = T::split(data, tail);
                    core::mem::replace(data, rest)
                });
                if let Some(data) = cut {
                    out.push(spare.fill(piece, piece_attrs, data));
                }
                return;
            } else {
                let Some(second) = nodes.take() else {
                    debug_assert!(false, "remove_range without its nodes");
                    nodes.put(spare);
                    return;
                };
                let keep = Span::new(whole.start, piece.start);
                let cut = cursor.change(keep, attrs, |data| {
                    let mut middle = T::split(data, head);
                    let rest = T::split(&mut middle, tail - head);
                    (middle, rest)
                });
                cursor.move_next();
                if let Some((middle, rest)) = cut {
                    let above = Span::new(piece.end, whole.end);
                    cursor.insert_before(second, above, T::advance(attrs, tail), rest);
                    out.push(spare.fill(piece, piece_attrs, middle));
                }
                return;
            }
        }
    }
}
