//! Ranges in order: with their values, without, and taken out.

use super::bounds::Bounds;
use super::key::Key;
use super::policy::Policy;
use super::{NodeFor, RangeMap, bounds_of};
use crate::node::NodeAlloc;
use crate::position::Number;
use crate::range::Span;
use crate::tree::{Entries, EntryRef};
use core::fmt;
use core::iter::FusedIterator;
use core::ops::RangeInclusive;

/// A range and its value, borrowed from a [`RangeMap`].
pub struct Entry<'a, K: Key, V> {
    bounds: Bounds<K::Index>,
    value: &'a V,
}

impl<'a, K: Key, V> Entry<'a, K, V> {
    fn new(bounds: Bounds<K::Index>, value: &'a V) -> Self {
        Entry { bounds, value }
    }

    pub(super) fn of_entry<P: Policy<V, K::Index>>(
        entry: EntryRef<'a, NodeFor<K, V, P>>,
        top: Option<&V>,
    ) -> Self {
        Entry::new(bounds_of(entry, top), entry.data())
    }

    /// The smallest key.
    pub fn first(&self) -> K {
        K::from_index(self.bounds.first)
    }

    /// The largest key.
    pub fn last(&self) -> K {
        K::from_index(self.bounds.last)
    }

    /// The key behind the largest; `None` if there is no larger key.
    pub fn end(&self) -> Option<K> {
        (self.bounds.last < K::MAX.index()).then(|| K::from_index(self.bounds.last + Number::ONE))
    }

    /// All keys.
    pub fn range(&self) -> RangeInclusive<K> {
        self.bounds.keys()
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: K) -> bool {
        (self.bounds.first..=self.bounds.last).contains(&key.index())
    }

    /// The value.
    pub fn value(&self) -> &'a V {
        self.value
    }

    /// First and last index, by which entries are in order.
    pub(super) fn places(&self) -> (K::Index, K::Index) {
        (self.bounds.first, self.bounds.last)
    }

    pub(super) fn into_value(self) -> &'a V {
        self.value
    }
}

impl<K: Key, V> Clone for Entry<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: Key, V> Copy for Entry<'_, K, V> {}

impl<K: Key, V: PartialEq> PartialEq for Entry<'_, K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.bounds == other.bounds && self.value == other.value
    }
}

impl<K: Key, V: Eq> Eq for Entry<'_, K, V> {}

impl<K: Key + fmt::Debug, V: fmt::Debug> fmt::Debug for Entry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.range(), self.value)
    }
}

/// Ranges with their values, ascending, from both ends. Made by [`RangeMap::iter`] and
/// [`RangeMap::overlapping`].
pub struct Iter<'a, K: Key, V, P> {
    entries: Entries<'a, NodeFor<K, V, P>>,
    top: Option<&'a V>,
    /// The top key's value, where that is still to come as a range of its own.
    lone: Option<&'a V>,
}

impl<'a, K: Key, V, P: Policy<V, K::Index>> Iter<'a, K, V, P> {
    pub(super) fn new(
        entries: Entries<'a, NodeFor<K, V, P>>,
        top: Option<&'a V>,
        lone: Option<&'a V>,
    ) -> Self {
        Iter { entries, top, lone }
    }

    fn take_lone(&mut self) -> Option<Entry<'a, K, V>> {
        self.lone.take().map(|value| Entry::new(Bounds::TOP, value))
    }
}

impl<K: Key, V, P> Clone for Iter<'_, K, V, P> {
    fn clone(&self) -> Self {
        Iter { entries: self.entries.clone(), top: self.top, lone: self.lone }
    }
}

impl<'a, K: Key, V, P: Policy<V, K::Index>> Iterator for Iter<'a, K, V, P> {
    type Item = Entry<'a, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.next() {
            Some(entry) => Some(Entry::of_entry(entry, self.top)),
            None => self.take_lone(),
        }
    }
}

impl<K: Key, V, P: Policy<V, K::Index>> DoubleEndedIterator for Iter<'_, K, V, P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take_lone()
            .or_else(|| self.entries.next_back().map(|entry| Entry::of_entry(entry, self.top)))
    }
}

impl<K: Key, V, P: Policy<V, K::Index>> FusedIterator for Iter<'_, K, V, P> {}

/// Ranges without a value, ascending, from both ends. Made by [`RangeMap::gaps`].
pub struct Gaps<'a, K: Key, V, P> {
    entries: Entries<'a, NodeFor<K, V, P>>,
    /// Where no gap has been given out yet.
    rest: Span<K::Index>,
    /// The top key is free, asked for, and not given out yet.
    top: bool,
}

impl<'a, K: Key, V, P> Gaps<'a, K, V, P> {
    pub(super) fn new(
        entries: Entries<'a, NodeFor<K, V, P>>,
        rest: Span<K::Index>,
        top: bool,
    ) -> Self {
        Gaps { entries, rest, top }
    }

    fn first_gap(&mut self) -> Option<Span<K::Index>> {
        while !self.rest.is_empty() {
            let next =
                self.entries.next().map_or(Span::new(self.rest.end, self.rest.end), EntryRef::span);
            let gap = Span::new(self.rest.start, next.start.min(self.rest.end));
            self.rest.start = next.end.max(self.rest.start);
            if !gap.is_empty() {
                return Some(gap);
            }
        }
        None
    }

    fn last_gap(&mut self) -> Option<Span<K::Index>> {
        while !self.rest.is_empty() {
            let start = self.rest.start;
            let next = self.entries.next_back().map_or(Span::new(start, start), EntryRef::span);
            let gap = Span::new(next.end.max(start), self.rest.end);
            self.rest.end = next.start.min(self.rest.end);
            if !gap.is_empty() {
                return Some(gap);
            }
        }
        None
    }

    /// The gap as keys, with the top key where it belongs to it.
    fn close(&mut self, gap: Span<K::Index>) -> RangeInclusive<K> {
        let bounds = Bounds::of_span(gap);
        if gap.end == Number::MAX && core::mem::take(&mut self.top) {
            return bounds.to_top().keys();
        }
        bounds.keys()
    }
}

impl<K: Key, V, P> Clone for Gaps<'_, K, V, P> {
    fn clone(&self) -> Self {
        Gaps { entries: self.entries.clone(), rest: self.rest, top: self.top }
    }
}

impl<K: Key, V, P> Iterator for Gaps<'_, K, V, P> {
    type Item = RangeInclusive<K>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(gap) = self.first_gap() {
            return Some(self.close(gap));
        }
        core::mem::take(&mut self.top).then(|| Bounds::TOP.keys())
    }
}

impl<K: Key, V, P> DoubleEndedIterator for Gaps<'_, K, V, P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let before = self.clone();
        let gap = self.last_gap();
        if self.top && gap.is_none_or(|gap| gap.end != Number::MAX) {
            // The top key is a gap of its own; the one below it comes next.
            *self = Gaps { top: false, ..before };
            return Some(Bounds::TOP.keys());
        }
        gap.map(|gap| self.close(gap))
    }
}

impl<K: Key, V, P> FusedIterator for Gaps<'_, K, V, P> {}

/// Ranges and values, taken out of their map, ascending, from both ends. O(log n) a range.
pub struct IntoIter<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> {
    map: RangeMap<K, V, A, P>,
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>>
    IntoIter<K, V, A, P>
{
    pub(super) fn new(map: RangeMap<K, V, A, P>) -> Self {
        IntoIter { map }
    }
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> Iterator
    for IntoIter<K, V, A, P>
{
    type Item = (RangeInclusive<K>, V);

    fn next(&mut self) -> Option<Self::Item> {
        self.map.pop_first()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.map.len(), Some(self.map.len()))
    }
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> DoubleEndedIterator
    for IntoIter<K, V, A, P>
{
    fn next_back(&mut self) -> Option<Self::Item> {
        self.map.pop_last()
    }
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> ExactSizeIterator
    for IntoIter<K, V, A, P>
{
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> FusedIterator
    for IntoIter<K, V, A, P>
{
}
