//! What only makes sense where memory does not run out, or where it ends as in `std` if it does.

extern crate alloc;

use super::key::Key;
use super::policy::Policy;
use super::{Equal, NodeFor, RangeMap};
use crate::error::Error;
use crate::node::{Heap, Node};
use alloc::alloc::{Layout, handle_alloc_error};
use core::ops::RangeBounds;

impl<K: Key, V: Clone + PartialEq> RangeMap<K, V, Heap, Equal> {
    /// An empty map on the heap, in which equal neighbours are one range. For another policy see
    /// [`Default`].
    pub fn new() -> Self {
        Self::default()
    }
}

impl<K: Key, V, P: Policy<V, K::Index>> RangeMap<K, V, Heap, P> {
    /// [`try_insert`](Self::try_insert); a range without keys is passed over.
    pub fn insert(&mut self, range: impl RangeBounds<K>, value: V) {
        or_abort::<K, V, P>(self.try_insert(range, value));
    }

    /// [`try_remove`](Self::try_remove); a range without keys is passed over.
    pub fn remove(&mut self, range: impl RangeBounds<K>) {
        or_abort::<K, V, P>(self.try_remove(range));
    }
}

/// Ends as the collections of `std` do when memory has run out; other errors are the callers' to
/// pass over.
fn or_abort<K: Key, V, P>(result: Result<(), Error>) {
    if result == Err(Error::OutOfMemory) {
        handle_alloc_error(Layout::new::<Node<NodeFor<K, V, P>>>());
    }
}

impl<K: Key, V, P: Policy<V, K::Index>> Default for RangeMap<K, V, Heap, P> {
    /// An empty map.
    ///
    /// A [`Key`] whose `MIN` lies above its `MAX` ends as running out of memory does.
    fn default() -> Self {
        match Self::try_new_in(Heap) {
            Ok(map) => map,
            Err(_) => handle_alloc_error(Layout::new::<Node<NodeFor<K, V, P>>>()),
        }
    }
}

impl<K: Key, V: Clone, P: Policy<V, K::Index>> Clone for RangeMap<K, V, Heap, P> {
    fn clone(&self) -> Self {
        match self.try_clone_in(Heap) {
            Ok(map) => map,
            Err(_) => handle_alloc_error(Layout::new::<Node<NodeFor<K, V, P>>>()),
        }
    }
}

impl<K: Key, V, P: Policy<V, K::Index>, R: RangeBounds<K>> Extend<(R, V)>
    for RangeMap<K, V, Heap, P>
{
    /// Inserts in order: where ranges overlap, the later one wins.
    fn extend<I: IntoIterator<Item = (R, V)>>(&mut self, ranges: I) {
        ranges.into_iter().for_each(|(range, value)| self.insert(range, value));
    }
}

impl<K: Key, V, P: Policy<V, K::Index>, R: RangeBounds<K>> FromIterator<(R, V)>
    for RangeMap<K, V, Heap, P>
{
    /// Inserts in order: where ranges overlap, the later one wins.
    fn from_iter<I: IntoIterator<Item = (R, V)>>(ranges: I) -> Self {
        let mut map = Self::default();
        map.extend(ranges);
        map
    }
}

/// In the usual policy only, so that nobody has to name it: for others collect.
impl<K: Key, V: Clone + PartialEq, R: RangeBounds<K>, const N: usize> From<[(R, V); N]>
    for RangeMap<K, V, Heap, Equal>
{
    fn from(ranges: [(R, V); N]) -> Self {
        ranges.into_iter().collect()
    }
}
