//! Maps as keys of other maps: order and hash.

use super::iter::Entry;
use super::key::Key;
use super::policy::Policy;
use super::{NodeFor, RangeMap};
use crate::node::NodeAlloc;
use core::cmp::Ordering;
use core::hash::{Hash, Hasher};

/// By the first key, then the last, then the value.
impl<K: Key, V: PartialOrd> PartialOrd for Entry<'_, K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.places().cmp(&other.places()) {
            Ordering::Equal => self.value().partial_cmp(other.value()),
            differ => Some(differ),
        }
    }
}

impl<K: Key, V: Ord> Ord for Entry<'_, K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.places().cmp(&other.places()).then_with(|| self.value().cmp(other.value()))
    }
}

impl<K: Key + Hash, V: Hash> Hash for Entry<'_, K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.first(), self.last(), self.value()).hash(state);
    }
}

/// As lists of ranges are ordered: the first range that differs decides.
impl<K, V, A, B, P> PartialOrd<RangeMap<K, V, B, P>> for RangeMap<K, V, A, P>
where
    K: Key,
    V: PartialOrd,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    B: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: Policy<V, K::Index>,
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
    P: Policy<V, K::Index>,
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
    P: Policy<V, K::Index>,
{
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}
