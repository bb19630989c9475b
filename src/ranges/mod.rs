//! Ranges of values: what happens to neighbours when a part is removed, replaced or changed.
//!
//! The tree below knows nodes and gaps; this layer knows that entries can be split and joined, and
//! asks the [`SplitMerge`] policy how. [`VmMap`](crate::VmMap) and [`RangeMap`](crate::RangeMap)
//! are built on it. Nothing here fails: whoever calls has checked, and holds the nodes (`*_cost`).

mod join;
mod modify;
mod place;
mod remove_range;
mod split;

use crate::error::Error;
use crate::node::Content;

/// How the entries of one kind split and join.
///
/// `advance` and `split` cut one entry into two that `joins` and `join` make one again.
pub trait SplitMerge: Content {
    /// The attributes of the part that begins `pages` into an entry with `attrs`.
    fn advance(attrs: Self::Attrs, pages: Self::Position) -> Self::Attrs;

    /// Cuts the data: `data` keeps the first `pages` pages, the rest is returned.
    fn split(data: &mut Self::Data, pages: Self::Position) -> Self::Data;

    /// Whether two entries that meet may be one, and else why not. `pages` is the left one's
    /// length.
    fn joins(
        left: (&Self::Attrs, &Self::Data),
        pages: Self::Position,
        right: (&Self::Attrs, &Self::Data),
    ) -> Result<(), Error>;

    /// As `joins`, for two parts of what was one entry: what is never joined may be put together
    /// again.
    fn rejoins(
        left: (&Self::Attrs, &Self::Data),
        pages: Self::Position,
        right: (&Self::Attrs, &Self::Data),
    ) -> Result<(), Error> {
        Self::joins(left, pages, right)
    }

    /// Joins the right one's data into the left one's, of `pages` pages.
    fn join(left: &mut Self::Data, pages: Self::Position, right: Self::Data);
}

/// With which neighbours a new entry may be joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// Both.
    #[default]
    Both,
    /// The one below only.
    Left,
    /// The one above only.
    Right,
    /// Neither.
    Never,
}

impl Merge {
    pub(crate) const fn left(self) -> bool {
        matches!(self, Merge::Both | Merge::Left)
    }

    pub(crate) const fn right(self) -> bool {
        matches!(self, Merge::Both | Merge::Right)
    }
}
