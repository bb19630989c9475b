//! Splitting and merging: what happens to neighbours when a range of a tree is removed, added or
//! modified.
//!
//! The tree below knows nodes and gaps; this layer knows that entries can be split and merged, and
//! asks the [`SplitMerge`] policy how. [`VmMap`](crate::VmMap) and [`RangeMap`](crate::RangeMap)
//! are built on it. Nothing here fails: the caller has checked, and has the nodes.

use crate::error::Error;
use crate::node::{Content, NodeAlloc, NodeStore, Preallocated};
use crate::range::PageRange;
use crate::tree::{CursorMut, EntryRef, Tree};

/// The most free nodes that any one operation on a range needs: one for each end that splits an
/// entry, and one for the entry that it adds.
pub(crate) const NODES_PER_OPERATION: usize = 3;

/// The attributes and the data of an entry.
pub(crate) type Parts<'a, T> = (&'a <T as Content>::Attrs, &'a <T as Content>::Data);

/// A policy of how the entries of one kind split and merge.
///
/// `advance` and `split` make two entries of one, which `can_merge` and `merge` make one again.
pub(crate) trait SplitMerge: Content {
    /// Returns the attributes of the part that begins `pages` pages into an entry with `attrs`.
    fn advance(context: Self::Context, attrs: Self::Attrs, pages: Self::Position) -> Self::Attrs;

    /// Splits the data of the entry over `range`: `data` keeps what lies below `at`, the rest is
    /// returned.
    fn split(
        context: Self::Context,
        data: &mut Self::Data,
        range: PageRange<Self::Position>,
        at: Self::Position,
    ) -> Self::Data;

    /// Decides whether two entries that meet may become one.
    ///
    /// # Errors
    ///
    /// Says why not.
    fn can_merge(
        context: Self::Context,
        left: Parts<'_, Self>,
        left_range: PageRange<Self::Position>,
        right: Parts<'_, Self>,
        right_range: PageRange<Self::Position>,
    ) -> Result<(), Error>;

    /// Decides the same for two parts of an entry that was one before: entries that otherwise never
    /// merge may be put together again.
    ///
    /// # Errors
    ///
    /// Says why not.
    fn can_merge_again(
        context: Self::Context,
        left: Parts<'_, Self>,
        left_range: PageRange<Self::Position>,
        right: Parts<'_, Self>,
        right_range: PageRange<Self::Position>,
    ) -> Result<(), Error> {
        Self::can_merge(context, left, left_range, right, right_range)
    }

    /// Takes the right entry's data into the left one's. The right one's is dropped later.
    fn merge(
        context: Self::Context,
        left: &mut Self::Data,
        left_range: PageRange<Self::Position>,
        right: &mut Self::Data,
        right_range: PageRange<Self::Position>,
    );
}

/// The neighbours with which a new entry may be merged.
///
/// ```
/// # use kvma::{Attrs, FixedPool, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// use kvma::{MapRequest, Merge};
///
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// let page = |addr| MapRequest::new(Placement::Fixed(addr), 0x1000, Attrs::new(Prot::RW));
/// map.map(page(0x4000), &mut NoHooks)?;
/// map.map(page(0x5000), &mut NoHooks)?;
/// map.map(page(0x6000).with_merge(Merge::Never), &mut NoHooks)?;
/// assert_eq!(map.len(), 2);
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Merge {
    /// Both.
    #[default]
    Both,
    /// Only the one below.
    Left,
    /// Only the one above.
    Right,
    /// Neither.
    Never,
}

impl Merge {
    pub(crate) const fn left(self) -> bool {
        matches!(self, Self::Both | Self::Left)
    }

    pub(crate) const fn right(self) -> bool {
        matches!(self, Self::Both | Self::Right)
    }
}

/// [`SplitMerge::can_merge`] or [`SplitMerge::can_merge_again`].
type CanMerge<T> = fn(
    <T as Content>::Context,
    Parts<'_, T>,
    PageRange<<T as Content>::Position>,
    Parts<'_, T>,
    PageRange<<T as Content>::Position>,
) -> Result<(), Error>;

/// Checks that two entries meet, that both hold data, and that the policy lets them merge.
///
/// # Errors
///
/// Says why not.
fn check_merge<T: SplitMerge>(
    can_merge: CanMerge<T>,
    context: T::Context,
    left: EntryRef<'_, T>,
    right: EntryRef<'_, T>,
) -> Result<(), Error> {
    let (left_range, right_range) = (left.range(), right.range());
    if left_range.end != right_range.start {
        return Err(Error::NotAdjacent);
    }
    // Claims never merge.
    let (Some(left_data), Some(right_data)) = (left.data(), right.data()) else {
        return Err(Error::AttributesDiffer);
    };
    let (left_attrs, right_attrs) = (left.attrs(), right.attrs());
    can_merge(
        context,
        (&left_attrs, left_data),
        left_range,
        (&right_attrs, right_data),
        right_range,
    )
}

/// Returns `true` if a new entry may be merged into `left`, which it meets.
fn merges_above<T: SplitMerge>(
    context: T::Context,
    left: EntryRef<'_, T>,
    range: PageRange<T::Position>,
    new: Parts<'_, T>,
) -> bool {
    let (left_range, left_attrs) = (left.range(), left.attrs());
    left_range.end == range.start
        && left.data().is_some_and(|data| {
            T::can_merge(context, (&left_attrs, data), left_range, new, range).is_ok()
        })
}

/// Returns `true` if a new entry may be merged with `right`, which it meets.
fn merges_below<T: SplitMerge>(
    context: T::Context,
    range: PageRange<T::Position>,
    new: Parts<'_, T>,
    right: EntryRef<'_, T>,
) -> bool {
    let (right_range, right_attrs) = (right.range(), right.attrs());
    right_range.start == range.end
        && right.data().is_some_and(|data| {
            T::can_merge(context, new, range, (&right_attrs, data), right_range).is_ok()
        })
}

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

    /// Adds an entry over the free range `range` and merges it with its neighbours where `merge`
    /// and the policy allow. Needs one free node. Returns the entry that holds `range` now. O(log
    /// n).
    pub(crate) fn insert<A: NodeAlloc<T>>(
        &mut self,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        mut data: T::Data,
        merge: Merge,
        store: &mut NodeStore<T, A>,
    ) -> Option<EntryRef<'_, T>> {
        let context = self.context();
        let mut cursor = self.cursor(range.start);
        if merge.left()
            && let Some(left) = cursor.prev()
            && merges_above(context, left, range, (&attrs, &data))
        {
            let (left_range, left_attrs) = (left.range(), left.attrs());
            cursor.move_prev();
            let both = PageRange::new(left_range.start, range.end);
            cursor.change(both, left_attrs, |left| {
                T::merge(context, left, left_range, &mut data, range);
            });
            store.put_unused(range, attrs, data);
            if merge.right() {
                let _ = cursor.merge_next(store);
            }
            return cursor.into_entry();
        }
        if merge.right()
            && let Some(right) = cursor.entry()
            && merges_below(context, range, (&attrs, &data), right)
        {
            let (right_range, right_attrs) = (right.range(), right.attrs());
            let both = PageRange::new(range.start, right_range.end);
            cursor.change(both, attrs, |right| {
                core::mem::swap(right, &mut data);
                T::merge(context, right, range, &mut data, right_range);
            });
            store.put_unused(right_range, right_attrs, data);
            return cursor.into_entry();
        }
        let Some(free) = store.free.take() else {
            debug_assert!(false, "insert without its node");
            return None;
        };
        cursor.insert_before(free, range, attrs, Some(data));
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
            if piece.start > whole.start && !cursor.split_at(piece.start, &mut store.free) {
                return;
            }
            if piece.end < whole.end {
                if !cursor.split_at(piece.end, &mut store.free) {
                    return;
                }
                cursor.move_prev();
            }
            cursor.set_attrs(T::advance(context, attrs, piece_offset));
            if let Some(entry) = cursor.entry() {
                changed(entry, T::advance(context, old, piece_offset));
            }
            let _ = cursor.merge_prev(store);
            cursor.move_next();
            // Not with an entry that is still to change: it would be passed over. It merges with
            // this one when its turn comes.
            let changes_too = cursor
                .entry()
                .is_some_and(|next| next.range().start < range.end && new(next) != next.attrs());
            if !changes_too && cursor.merge_prev(store).is_ok() {
                cursor.move_next();
            }
        }
    }

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

    /// Merges the entries that meet at `page`. O(log n).
    ///
    /// # Errors
    ///
    /// Says why they may not be merged.
    pub(crate) fn merge_at<A: NodeAlloc<T>>(
        &mut self,
        page: T::Position,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        let mut cursor = self.cursor(page);
        match cursor.entry() {
            Some(entry) if entry.range().start == page => cursor.merge_prev(store),
            _ => Err(Error::NotAdjacent),
        }
    }

    /// Checks whether [`merge_at`](Self::merge_at) would merge. O(log n).
    ///
    /// # Errors
    ///
    /// Says why not.
    pub(crate) fn can_merge_at(&self, page: T::Position) -> Result<(), Error> {
        match (self.find_before(page), self.find(page)) {
            (Some(left), Some(right)) => check_merge(T::can_merge, self.context(), left, right),
            _ => Err(Error::NotAdjacent),
        }
    }
}

impl<T: SplitMerge> CursorMut<'_, T> {
    /// Removes `piece`, which is a part of the entry here, into the store, and moves to the first
    /// entry behind it. Returns `false`, and nothing happens, without the nodes: one, or two if the
    /// piece is in the middle.
    fn remove_piece<A: NodeAlloc<T>>(
        &mut self,
        piece: PageRange<T::Position>,
        store: &mut NodeStore<T, A>,
    ) -> bool {
        let Some(entry) = self.entry() else { return false };
        let (whole, attrs, context) = (entry.range(), entry.attrs(), self.context());
        let Some(node) = store.free.take() else {
            debug_assert!(false, "remove_piece without its node");
            return false;
        };
        let head = PageRange::new(whole.start, piece.start);
        let tail = PageRange::new(piece.end, whole.end);
        let attrs_at = |page| T::advance(context, attrs, page - whole.start);
        let removed = if tail.is_empty() {
            let removed =
                self.change(head, attrs, |data| T::split(context, data, whole, piece.start));
            self.move_next();
            removed
        } else if head.is_empty() {
            self.change(tail, attrs_at(tail.start), |data| {
                let rest = T::split(context, data, whole, tail.start);
                core::mem::replace(data, rest)
            })
        } else {
            let Some(tail_node) = store.free.take() else {
                debug_assert!(false, "remove_piece without its second node");
                store.free.put(node);
                return false;
            };
            let split = self.change(head, attrs, |data| {
                let mut middle = T::split(context, data, whole, piece.start);
                let above = PageRange::new(piece.start, whole.end);
                let rest = T::split(context, &mut middle, above, tail.start);
                (middle, rest)
            });
            self.move_next();
            split.map(|(middle, rest)| {
                self.insert_before(tail_node, tail, attrs_at(tail.start), Some(rest));
                middle
            })
        };
        if let Some(data) = removed {
            store.removed.push(node.fill(piece, attrs_at(piece.start), data));
        }
        true
    }

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

    /// Merges the entry here with the one before it if the policy allows; stays at the entry that
    /// holds this place.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub(crate) fn merge_prev<A: NodeAlloc<T>>(
        &mut self,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        self.merge_prev_if(T::can_merge, store)
    }

    /// Merges as [`merge_prev`](Self::merge_prev) does, two parts of an entry that was one before.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub(crate) fn merge_prev_again<A: NodeAlloc<T>>(
        &mut self,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        self.merge_prev_if(T::can_merge_again, store)
    }

    fn merge_prev_if<A: NodeAlloc<T>>(
        &mut self,
        can_merge: CanMerge<T>,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        let (Some(left), Some(right)) = (self.prev(), self.entry()) else {
            return Err(Error::NotAdjacent);
        };
        let context = self.context();
        check_merge(can_merge, context, left, right)?;
        let (left_range, right_range) = (left.range(), right.range());
        let merged = self.merge_into_prev(|left, right| {
            T::merge(context, left, left_range, right, right_range);
        });
        if let Some(node) = merged {
            store.put_merged(node);
        }
        Ok(())
    }

    /// Merges the entry here with the one behind it, as [`merge_prev`](Self::merge_prev) does.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub(crate) fn merge_next<A: NodeAlloc<T>>(
        &mut self,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        self.move_next();
        let merged = self.merge_prev(store);
        if merged.is_err() {
            self.move_prev();
        }
        merged
    }
}
