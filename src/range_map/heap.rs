//! Calls and traits for maps on the heap, which cannot say that memory has run out: they end as the
//! collections of `std` do if it has.

extern crate alloc;

use alloc::alloc::{Layout, handle_alloc_error};
use core::ops::RangeBounds;

use super::key::Key;
use super::merge_policy::{Equal, MergePolicy};
use super::{NodeFor, RangeMap};
use crate::error::Error;
use crate::node::{Heap, Node};

impl<K: Key, V: Clone + PartialEq> RangeMap<K, V, Heap, Equal> {
    /// Returns an empty map on the heap, in which equal neighbours are one range.
    ///
    /// For another policy use [`Default`].
    pub fn new() -> Self {
        Self::default()
    }
}

impl<K: Key, V, P: MergePolicy<V, K::Index>> RangeMap<K, V, Heap, P> {
    /// Gives every key of `range` this value, as [`try_insert`](Self::try_insert) does.
    ///
    /// Nothing happens for a range without keys, or one that ends before it starts.
    pub fn insert(&mut self, range: impl RangeBounds<K>, value: V) {
        or_abort::<K, V, P>(self.try_insert(range, value));
    }

    /// Removes the value of every key of `range`, as [`try_remove`](Self::try_remove) does.
    ///
    /// Nothing happens for a range without keys, or one that ends before it starts.
    pub fn remove(&mut self, range: impl RangeBounds<K>) {
        or_abort::<K, V, P>(self.try_remove(range));
    }
}

/// Ends the program if memory has run out. The other errors are about ranges without keys, which
/// the callers promise to ignore.
fn or_abort<K: Key, V, P>(result: Result<(), Error>) {
    if result == Err(Error::OutOfMemory) {
        out_of_memory::<K, V, P>();
    }
}

fn out_of_memory<K: Key, V, P>() -> ! {
    handle_alloc_error(Layout::new::<Node<NodeFor<K, V, P>>>())
}

impl<K: Key, V, P: MergePolicy<V, K::Index>> Default for RangeMap<K, V, Heap, P> {
    /// Returns an empty map.
    ///
    /// A [`Key`] whose `MIN` lies above its `MAX` ends as running out of memory does.
    fn default() -> Self {
        Self::try_new_in(Heap).unwrap_or_else(|_| out_of_memory::<K, V, P>())
    }
}

impl<K: Key, V: Clone, P: MergePolicy<V, K::Index>> Clone for RangeMap<K, V, Heap, P> {
    fn clone(&self) -> Self {
        self.try_clone_in(Heap).unwrap_or_else(|_| out_of_memory::<K, V, P>())
    }
}

impl<K, V, P, R> Extend<(R, V)> for RangeMap<K, V, Heap, P>
where
    K: Key,
    P: MergePolicy<V, K::Index>,
    R: RangeBounds<K>,
{
    /// Inserts in order: where ranges overlap, the later one wins.
    fn extend<I: IntoIterator<Item = (R, V)>>(&mut self, ranges: I) {
        ranges.into_iter().for_each(|(range, value)| self.insert(range, value));
    }
}

impl<K, V, P, R> FromIterator<(R, V)> for RangeMap<K, V, Heap, P>
where
    K: Key,
    P: MergePolicy<V, K::Index>,
    R: RangeBounds<K>,
{
    /// Inserts in order: where ranges overlap, the later one wins.
    fn from_iter<I: IntoIterator<Item = (R, V)>>(ranges: I) -> Self {
        let mut map = Self::default();
        map.extend(ranges);
        map
    }
}

/// Exists for the usual policy only, so that nobody has to name it. For others, collect.
impl<K, V, R, const N: usize> From<[(R, V); N]> for RangeMap<K, V, Heap, Equal>
where
    K: Key,
    V: Clone + PartialEq,
    R: RangeBounds<K>,
{
    /// Inserts in order: where ranges overlap, the later one wins.
    fn from(ranges: [(R, V); N]) -> Self {
        ranges.into_iter().collect()
    }
}
