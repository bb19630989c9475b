//! Merging entries that meet.

use super::{Parts, SplitMerge};
use crate::error::Error;
use crate::node::{NodeAlloc, NodeStore};
use crate::range::PageRange;
use crate::tree::{CursorMut, DataOver, EntryRef, Tree};

/// The type of [`SplitMerge::can_merge`] and [`SplitMerge::can_merge_again`].
pub(super) trait CanMerge<T: SplitMerge>:
    Fn(
    T::Context,
    Parts<'_, T>,
    PageRange<T::Position>,
    Parts<'_, T>,
    PageRange<T::Position>,
) -> Result<(), Error>
{
}

impl<T: SplitMerge, F> CanMerge<T> for F where
    F: Fn(
        T::Context,
        Parts<'_, T>,
        PageRange<T::Position>,
        Parts<'_, T>,
        PageRange<T::Position>,
    ) -> Result<(), Error>
{
}

/// Checks that two entries meet, that both hold data, and that the policy lets them merge.
///
/// # Errors
///
/// Says why not.
pub(super) fn check_merge<T: SplitMerge>(
    can_merge: impl CanMerge<T>,
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
pub(super) fn merges_above<T: SplitMerge>(
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
pub(super) fn merges_below<T: SplitMerge>(
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

/// Merges the right entry's data into the left one's.
pub(super) fn merge<T: SplitMerge>(
    context: T::Context,
    left: DataOver<'_, T>,
    right: DataOver<'_, T>,
) {
    let ((left, left_range), (right, right_range)) = (left, right);
    T::merge(context, left, left_range, right, right_range);
}

impl<T: SplitMerge> Tree<T> {
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
        can_merge: impl CanMerge<T>,
        store: &mut NodeStore<T, A>,
    ) -> Result<(), Error> {
        let context = self.context();
        let merged = self.merge_into_prev(
            |left, right| check_merge(can_merge, context, left, right),
            |left, right| merge::<T>(context, left, right),
        )?;
        store.put_merged(merged);
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
        let context = self.context();
        let merged = self.merge_next_into(
            |left, right| check_merge(T::can_merge, context, left, right),
            |left, right| merge::<T>(context, left, right),
        )?;
        store.put_merged(merged);
        Ok(())
    }
}
