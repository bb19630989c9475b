//! Splitting and merging: what happens to neighbours when a range of a tree is removed, added or
//! modified.
//!
//! The tree below knows nodes and gaps; this layer knows that entries can be split and merged, and
//! asks the [`SplitMerge`] policy how. [`VmMap`](crate::VmMap) and [`RangeMap`](crate::RangeMap)
//! are built on it. Nothing here fails: the caller has checked, and has the nodes.

mod insert;
mod merge;
mod modify;
mod remove;
mod split;

use crate::error::Error;
use crate::node::Content;
use crate::range::PageRange;

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
