//! The traits that a map has with any allocator: equality, order, hash, `Debug`, iteration.

use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::ops::RangeInclusive;

use super::iter::{Entry, IntoIter, Iter};
use super::key::Key;
use super::merge_policy::MergePolicy;
use super::{NodeFor, RangeMap};
use crate::node::NodeAlloc;

/// Maps are equal if the same keys have equal values. Allocators do not matter.
impl<K, V, A, B, P> PartialEq<RangeMap<K, V, B, P>> for RangeMap<K, V, A, P>
where
    K: Key,
    V: PartialEq,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    B: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn eq(&self, other: &RangeMap<K, V, B, P>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K, V, A, P> Eq for RangeMap<K, V, A, P>
where
    K: Key,
    V: Eq,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
}

/// Maps are ordered as lists of entries are: the first entry that differs decides.
impl<K, V, A, B, P> PartialOrd<RangeMap<K, V, B, P>> for RangeMap<K, V, A, P>
where
    K: Key,
    V: PartialOrd,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    B: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn partial_cmp(&self, other: &RangeMap<K, V, B, P>) -> Option<Ordering> {
        self.iter().partial_cmp(other.iter())
    }
}

impl<K, V, A, P> Ord for RangeMap<K, V, A, P>
where
    K: Key,
    V: Ord,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl<K, V, A, P> Hash for RangeMap<K, V, A, P>
where
    K: Key + Hash,
    V: Hash,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

/// Shows the entries, as a map from ranges to values.
impl<K, V, A, P> fmt::Debug for RangeMap<K, V, A, P>
where
    K: Key + fmt::Debug,
    V: fmt::Debug,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().fmt(f)
    }
}

impl<'a, K, V, A, P> IntoIterator for &'a RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    type Item = Entry<'a, K, V>;
    type IntoIter = Iter<'a, K, V, P>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V, A, P> IntoIterator for RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    type Item = (RangeInclusive<K>, V);
    type IntoIter = IntoIter<K, V, A, P>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter::new(self)
    }
}
