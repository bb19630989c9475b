//! A range as the map sees it: from the first key's index to the last one's.

use super::key::Key;
use crate::error::Error;
use crate::position::Position;
use crate::range::Span;
use core::ops::{Bound, RangeBounds, RangeInclusive};

/// First and last index of a range.
///
/// Where the two are of full width, the highest index is the *top*: the key there has no half-open
/// span of indices, since its end would be 2^64 (or 2^128). The tree holds everything below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds<I> {
    pub(super) first: I,
    pub(super) last: I,
}

impl<I: Position> Bounds<I> {
    /// The top alone.
    pub(super) const TOP: Self = Bounds { first: I::MAX, last: I::MAX };

    /// What a span that is not empty covers.
    pub(super) fn of_span(span: Span<I>) -> Self {
        Bounds { first: span.start, last: span.end - I::ONE }
    }

    /// From the first index on, to the top.
    pub(super) fn to_top(self) -> Self {
        Bounds { last: I::MAX, ..self }
    }

    /// Whether the top belongs to it.
    pub(super) fn has_top(self) -> bool {
        self.last == I::MAX
    }

    /// Without the top, which no span can hold. May be empty.
    pub(super) fn span(self) -> Span<I> {
        Span::new(self.first, self.last.saturating_add(I::ONE))
    }

    /// All keys.
    pub(super) fn all<K: Key<Index = I>>() -> Self {
        Bounds { first: K::MIN.index(), last: K::MAX.index() }
    }

    /// [`Error::ZeroLength`] for a range without keys, [`Error::OutOfRange`] for one that ends
    /// before it starts.
    pub(super) fn of<K: Key<Index = I>>(range: &impl RangeBounds<K>) -> Result<Self, Error> {
        let all = Bounds::all::<K>();
        let first = match range.start_bound() {
            Bound::Unbounded => all.first,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) => key.index().checked_add(I::ONE).ok_or(Error::ZeroLength)?,
        };
        let last = match range.end_bound() {
            Bound::Unbounded => all.last,
            Bound::Included(key) => key.index(),
            Bound::Excluded(key) if key.index() == first => return Err(Error::ZeroLength),
            Bound::Excluded(key) => key.index().checked_sub(I::ONE).ok_or(Error::OutOfRange)?,
        };
        if first > last || first < all.first || last > all.last {
            return Err(Error::OutOfRange);
        }
        Ok(Bounds { first, last })
    }

    /// As keys.
    pub(super) fn keys<K: Key<Index = I>>(self) -> RangeInclusive<K> {
        K::from_index(self.first)..=K::from_index(self.last)
    }
}
