//! How values are split and merged: the policies, and the tree nodes that follow them.

use core::fmt;
use core::marker::PhantomData;

use crate::error::Error;
use crate::node::Content;
use crate::position::Position;
use crate::range::PageRange;
use crate::split_merge::{Parts, SplitMerge};

/// Says what becomes of a value when its range is split, and which neighbours are one range.
///
/// [`Equal`] and [`Contiguous`] are ready-made. Write your own for values that count references, or
/// whose neighbours merge on a condition.
///
/// `I` is the type that keys are counted in: the [`Index`](crate::range_map::Key::Index) of the
/// map's keys.
///
/// The map keeps the value of the very largest key of 64 or 128 bits apart, as if its range had
/// been split there, and shows the value of the keys below for the whole range. So values for such
/// keys should say where a range begins or what it is, as those of the ready-made policies do, and
/// not how long it is.
///
/// Parts that `split` makes of a value must be what `can_merge` and `merge` make one value again.
/// The methods run while the map is changing and should not panic: a map whose policy has panicked
/// is sound, but may have lost the entries that were being changed.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::range_map::{MergePolicy, RangeMap};
/// use kvma::Heap;
///
/// /// Neighbours stay apart even if they are equal.
/// enum Separate {}
///
/// impl<V: Clone> MergePolicy<V> for Separate {
///     fn split(value: &mut V, _keys: u64) -> V {
///         value.clone()
///     }
///
///     fn can_merge(_left: &V, _keys: u64, _right: &V) -> bool {
///         false
///     }
/// }
///
/// let mut map = RangeMap::<u32, char, Heap, Separate>::default();
/// map.insert(0..10, 'a');
/// map.insert(10..20, 'a');
/// assert_eq!(map.len(), 2);
/// # }
/// ```
pub trait MergePolicy<V, I: Position = u64> {
    /// Splits a value: `value` keeps the first `keys` keys, and the value of the rest is returned.
    fn split(value: &mut V, keys: I) -> V;

    /// Returns `true` if two ranges that meet are to be one. `keys` is the length of the left one.
    fn can_merge(left: &V, keys: I, right: &V) -> bool;

    /// Takes what is needed of the right range's value into the left one's, whose range has `keys`
    /// keys. The right one is dropped afterwards.
    fn merge(left: &mut V, keys: I, right: &mut V) {
        let _ = (left, keys, right);
    }
}

/// The usual policy: equal neighbours are one range, and both halves of a split have equal values.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::RangeMap;
///
/// let mut map = RangeMap::new(); // `Equal`, unless another policy is named
/// map.insert(0..10, "free");
/// map.insert(10..20, "free");
/// assert_eq!(map.find(15).map(|entry| entry.range()), Some(0..=19));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Equal {}

impl<V: Clone + PartialEq, I: Position> MergePolicy<V, I> for Equal {
    fn split(value: &mut V, _keys: I) -> V {
        value.clone()
    }

    fn can_merge(left: &V, _keys: I, right: &V) -> bool {
        left == right
    }
}

/// A value that runs along with the keys, such as an offset in a file. See [`Contiguous`].
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::Heap;
/// use kvma::range_map::{Advance, Contiguous, RangeMap};
///
/// /// A place on one of several disks.
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Place {
///     disk: u8,
///     block: u64,
/// }
///
/// impl Advance for Place {
///     fn advance(&self, keys: u64) -> Self {
///         Self { block: self.block + keys, ..*self }
///     }
/// }
///
/// let mut map = RangeMap::<u64, Place, Heap, Contiguous>::default();
/// map.insert(100..200, Place { disk: 1, block: 5000 });
/// map.remove(120..130);
/// assert_eq!(map.get(130), Some(&Place { disk: 1, block: 5030 }));
/// # }
/// ```
pub trait Advance<I: Position = u64> {
    /// Returns the value `keys` keys further on.
    #[must_use]
    fn advance(&self, keys: I) -> Self;
}

impl Advance for u64 {
    /// Adds `keys`, and wraps.
    fn advance(&self, keys: Self) -> Self {
        self.wrapping_add(keys)
    }
}

impl Advance<Self> for u128 {
    /// Adds `keys`, and wraps.
    fn advance(&self, keys: Self) -> Self {
        self.wrapping_add(keys)
    }
}

/// The policy for values that run along with the keys: the right half of a split begins further on,
/// and neighbours are one range if the right one goes on where the left one ends. Equal values do
/// not merge.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::range_map::{Contiguous, RangeMap};
/// use kvma::Heap;
///
/// // Where in a file each address comes from.
/// let mut map = RangeMap::<u64, u64, Heap, Contiguous>::default();
/// map.insert(0x1000..0x5000, 0);
/// map.remove(0x2000..0x4000);
/// assert_eq!(map.get(0x4000), Some(&0x3000)); // not 0: the split has advanced it
/// map.insert(0x2000..0x4000, 0x1000);
/// assert_eq!(map.len(), 1);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Contiguous {}

impl<V: Advance<I> + PartialEq, I: Position> MergePolicy<V, I> for Contiguous {
    fn split(value: &mut V, keys: I) -> V {
        value.advance(keys)
    }

    fn can_merge(left: &V, keys: I, right: &V) -> bool {
        left.advance(keys) == *right
    }
}

/// The kind of tree that a [`RangeMap`](crate::RangeMap) keeps its ranges in: the parameter of node
/// allocators for one.
///
/// `I` is the [`Index`](crate::range_map::Key::Index) of the map's keys: `RangeNode<V>` serves keys
/// of up to 64 bits, `RangeNode<V, Equal, u128>` wider ones.
///
/// ```
/// use kvma::range_map::{RangeMap, RangeNode};
/// use kvma::FixedPool;
///
/// static NODES: FixedPool<RangeNode<char>, 16> = FixedPool::new();
///
/// let mut map = RangeMap::<u16, char, _>::try_new_in(&NODES)?;
/// map.try_insert(0x60..=0x64, 'k')?; // I/O ports of the keyboard controller
/// assert_eq!(map.get(0x64), Some(&'k'));
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct RangeNode<V, P = Equal, I = u64>(PhantomData<fn() -> (V, P)>, PhantomData<I>);

impl<V, P, I> fmt::Debug for RangeNode<V, P, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RangeNode")
    }
}

impl<V, P, I: Position> Content for RangeNode<V, P, I> {
    type Position = I;
    type Context = ();
    type Attrs = ();
    type Words = ();
    type Data = V;
    type Key = ();

    fn load((): &(), _hot: u32) {}

    fn store((): &(), (): &()) -> u32 {
        0
    }
}

impl<V, P: MergePolicy<V, I>, I: Position> SplitMerge for RangeNode<V, P, I> {
    fn advance((): (), (): (), _keys: I) {}

    fn split((): (), value: &mut V, range: PageRange<I>, at: I) -> V {
        P::split(value, at - range.start)
    }

    fn can_merge(
        (): (),
        ((), left): Parts<'_, Self>,
        left_range: PageRange<I>,
        ((), right): Parts<'_, Self>,
        _right_range: PageRange<I>,
    ) -> Result<(), Error> {
        if P::can_merge(left, left_range.len(), right) {
            Ok(())
        } else {
            Err(Error::AttributesDiffer)
        }
    }

    fn merge(
        (): (),
        left: &mut V,
        left_range: PageRange<I>,
        right: &mut V,
        _right_range: PageRange<I>,
    ) {
        P::merge(left, left_range.len(), right);
    }
}
