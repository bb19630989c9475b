//! What every collection has.

use super::iter::{Entry, IntoIter, Iter};
use super::key::Key;
use super::policy::Policy;
use super::{NodeFor, RangeMap};
use crate::node::NodeAlloc;
use core::fmt;

/// Equal if the same keys have equal values; allocators do not matter.
impl<K, V, A, B, P> PartialEq<RangeMap<K, V, B, P>> for RangeMap<K, V, A, P>
where
    K: Key,
    V: PartialEq,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    B: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: Policy<V, K::Index>,
{
    fn eq(&self, other: &RangeMap<K, V, B, P>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Key, V: Eq, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> Eq
    for RangeMap<K, V, A, P>
{
}

impl<K, V, A, P> fmt::Debug for RangeMap<K, V, A, P>
where
    K: Key + fmt::Debug,
    V: fmt::Debug,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: Policy<V, K::Index>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|entry| (entry.range(), entry.value()))).finish()
    }
}

impl<'a, K, V, A, P> IntoIterator for &'a RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: Policy<V, K::Index>,
{
    type Item = Entry<'a, K, V>;
    type IntoIter = Iter<'a, K, V, P>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> IntoIterator
    for RangeMap<K, V, A, P>
{
    type Item = (core::ops::RangeInclusive<K>, V);
    type IntoIter = IntoIter<K, V, A, P>;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter::new(self)
    }
}
