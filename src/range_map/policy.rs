//! How values are split and joined.

use crate::error::Error;
use crate::node::Content;
use crate::position::Position;
use crate::ranges::SplitMerge;
use core::marker::PhantomData;

/// What becomes of values when ranges are cut, and which neighbours are one range.
///
/// `I` is what the keys are retry_with_nodes in: the [`Index`](crate::Key::Index) of the map's
/// keys.
///
/// `split` cuts a value into two that `joins` and `join` make one again. They run while the map is
/// changing and should not panic: a map whose policy did is sound, but may have lost what was being
/// changed.
pub trait Policy<V, I: Position = u64> {
    /// A range is cut: `value` keeps the first `keys` keys, the value of the rest is returned.
    fn split(value: &mut V, keys: I) -> V;

    /// Whether two ranges that meet are to be one. `keys` is the left one's length.
    fn joins(left: &V, keys: I, right: &V) -> bool;

    /// Two ranges become one: takes the right one's value into the left one's.
    fn join(left: &mut V, keys: I, right: V) {
        let _ = (left, keys, right);
    }
}

/// The usual policy: equal neighbours are one range, and both halves of a cut have equal values.
#[derive(Clone, Copy, Debug)]
pub enum Equal {}

impl<V: Clone + PartialEq, I: Position> Policy<V, I> for Equal {
    fn split(value: &mut V, _keys: I) -> V {
        value.clone()
    }

    fn joins(left: &V, _keys: I, right: &V) -> bool {
        left == right
    }
}

/// A value that runs along with the keys, such as an offset in a file. See [`Contiguous`].
pub trait Advance<I: Position = u64> {
    /// The value `keys` keys further on.
    fn advance(&self, keys: I) -> Self;
}

impl Advance for u64 {
    /// Wraps.
    fn advance(&self, keys: u64) -> u64 {
        self.wrapping_add(keys)
    }
}

impl Advance<u128> for u128 {
    /// Wraps.
    fn advance(&self, keys: u128) -> u128 {
        self.wrapping_add(keys)
    }
}

/// The policy for values that run along with the keys: the rest of a cut starts further on, and
/// neighbours are one range if the right one goes on where the left one ends. Equal values do not
/// join.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// # use kvma::{Contiguous, Heap, RangeMap};
/// // Where in a file each address comes from.
/// let mut map = RangeMap::<u64, u64, Heap, Contiguous>::default();
/// map.insert(0x1000..0x5000, 0);
/// map.remove(0x2000..0x4000);
/// assert_eq!(map.get(0x4000), Some(&0x3000)); // not 0: the cut advanced it
/// map.insert(0x2000..0x4000, 0x1000);
/// assert_eq!(map.len(), 1);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Contiguous {}

impl<V: Advance<I> + PartialEq, I: Position> Policy<V, I> for Contiguous {
    fn split(value: &mut V, keys: I) -> V {
        value.advance(keys)
    }

    fn joins(left: &V, keys: I, right: &V) -> bool {
        left.advance(keys) == *right
    }
}

/// The kind of tree that a [`RangeMap`](crate::RangeMap) keeps its ranges in; what node allocators
/// for one are made of. `I` is the [`Index`](crate::Key::Index) of its keys: `RangeNode<V>` serves
/// keys of up to 64 bits, `RangeNode<V, Equal, u128>` wider ones.
pub struct RangeNode<V, P = Equal, I = u64>(PhantomData<fn() -> (V, P)>, PhantomData<I>);

impl<V, P, I: Position> Content for RangeNode<V, P, I> {
    type Position = I;
    type Attrs = ();
    type Words = ();
    type Data = V;

    fn load((): &(), _hot: u32) {}

    fn store((): &(), (): &(), _data: &V) -> u32 {
        0
    }
}

impl<V, P: Policy<V, I>, I: Position> SplitMerge for RangeNode<V, P, I> {
    fn advance((): (), _pages: I) {}

    fn split(data: &mut V, pages: I) -> V {
        P::split(data, pages)
    }

    fn joins(left: (&(), &V), pages: I, right: (&(), &V)) -> Result<(), Error> {
        if P::joins(left.1, pages, right.1) { Ok(()) } else { Err(Error::AttributesDiffer) }
    }

    fn join(left: &mut V, pages: I, right: V) {
        P::join(left, pages, right)
    }
}
