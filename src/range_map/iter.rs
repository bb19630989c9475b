//! Iterators: over entries, over gaps, and over what is taken out of a map.

use core::cmp::Ordering;
use core::hash::{Hash, Hasher};
use core::iter::FusedIterator;
use core::ops::RangeInclusive;
use core::{fmt, mem};

use super::key::{Bounds, Key};
use super::merge_policy::MergePolicy;
use super::{NodeFor, RangeMap, bounds_of};
use crate::node::NodeAlloc;
use crate::position::Number;
use crate::range::PageRange;
use crate::tree::{Entries, EntryRef};

/// A range and its value, borrowed from a [`RangeMap`].
///
/// Entries are ordered by their first key, then the last, then the value.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::range_map::RangeMap;
///
/// let map = RangeMap::from([(32_u8..=47, "disk")]);
/// let entry = map.find(40).unwrap();
/// assert_eq!((entry.first(), entry.last(), entry.end()), (32, 47, Some(48)));
/// assert_eq!(*entry.value(), "disk");
/// # }
/// ```
pub struct Entry<'a, K: Key, V> {
    bounds: Bounds<K::Index>,
    value: &'a V,
}

impl<'a, K: Key, V> Entry<'a, K, V> {
    fn new(bounds: Bounds<K::Index>, value: &'a V) -> Self {
        Entry { bounds, value }
    }

    pub(super) fn of_entry<P: MergePolicy<V, K::Index>>(
        entry: EntryRef<'a, NodeFor<K, V, P>>,
        top: Option<&V>,
    ) -> Option<Self> {
        Some(Self::new(bounds_of(entry, top), entry.data()?))
    }

    /// Returns the smallest key.
    pub fn first(&self) -> K {
        K::from_index(self.bounds.first)
    }

    /// Returns the largest key.
    pub fn last(&self) -> K {
        K::from_index(self.bounds.last)
    }

    /// Returns the key after the largest one of the entry; `None` if there is none.
    pub fn end(&self) -> Option<K> {
        (self.bounds.last < K::MAX.index()).then(|| K::from_index(self.bounds.last + Number::ONE))
    }

    /// Returns the range, from the smallest to the largest key.
    pub fn range(&self) -> RangeInclusive<K> {
        self.bounds.keys()
    }

    /// Returns `true` if `key` lies in the range.
    pub fn contains(&self, key: K) -> bool {
        (self.bounds.first..=self.bounds.last).contains(&key.index())
    }

    /// Returns the value.
    pub fn value(&self) -> &'a V {
        self.value
    }

    fn indices(&self) -> (K::Index, K::Index) {
        (self.bounds.first, self.bounds.last)
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

impl<K: Key, V: PartialOrd> PartialOrd for Entry<'_, K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.indices().cmp(&other.indices()) {
            Ordering::Equal => self.value.partial_cmp(other.value),
            unequal => Some(unequal),
        }
    }
}

impl<K: Key, V: Ord> Ord for Entry<'_, K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.indices().cmp(&other.indices()).then_with(|| self.value.cmp(other.value))
    }
}

impl<K: Key + Hash, V: Hash> Hash for Entry<'_, K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.first(), self.last(), self.value).hash(state);
    }
}

impl<K: Key + fmt::Debug, V: fmt::Debug> fmt::Debug for Entry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range().fmt(f)?;
        f.write_str(": ")?;
        self.value.fmt(f)
    }
}

/// An iterator over the entries of a [`RangeMap`], ascending, from both ends.
///
/// Returned by [`RangeMap::iter`] and [`RangeMap::overlapping`].
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::RangeMap;
///
/// let ports = RangeMap::from([(0x60_u16..=0x64, "keyboard"), (0x3f8..=0x3ff, "serial")]);
/// let mut names = ports.overlapping(0x62..0x400).map(|entry| *entry.value());
/// assert_eq!((names.next_back(), names.next()), (Some("serial"), Some("keyboard")));
/// # }
/// ```
pub struct Iter<'a, K: Key, V, P> {
    entries: Entries<'a, NodeFor<K, V, P>>,
    /// The value of the top key, which may belong to the last entry.
    top: Option<&'a V>,
    /// The value of the top key, as long as that is still to come as an entry of its own.
    lone_top: Option<&'a V>,
}

impl<'a, K: Key, V, P: MergePolicy<V, K::Index>> Iter<'a, K, V, P> {
    pub(super) fn new(
        entries: Entries<'a, NodeFor<K, V, P>>,
        top: Option<&'a V>,
        lone_top: Option<&'a V>,
    ) -> Self {
        Iter { entries, top, lone_top }
    }

    fn take_lone_top(&mut self) -> Option<Entry<'a, K, V>> {
        self.lone_top.take().map(|value| Entry::new(Bounds::TOP, value))
    }
}

impl<K: Key, V, P> Clone for Iter<'_, K, V, P> {
    fn clone(&self) -> Self {
        Iter { entries: self.entries.clone(), top: self.top, lone_top: self.lone_top }
    }
}

/// Shows the entries that are still to come.
impl<K, V, P> fmt::Debug for Iter<'_, K, V, P>
where
    K: Key + fmt::Debug,
    V: fmt::Debug,
    P: MergePolicy<V, K::Index>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Looks as `debug_map` would show it, which has a panic that cannot be optimized away.
        f.debug_set().entries(self.clone()).finish()
    }
}

impl<'a, K: Key, V, P: MergePolicy<V, K::Index>> Iterator for Iter<'a, K, V, P> {
    type Item = Entry<'a, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.next() {
            Some(entry) => Entry::of_entry(entry, self.top),
            None => self.take_lone_top(),
        }
    }
}

impl<K: Key, V, P: MergePolicy<V, K::Index>> DoubleEndedIterator for Iter<'_, K, V, P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take_lone_top()
            .or_else(|| self.entries.next_back().and_then(|entry| Entry::of_entry(entry, self.top)))
    }
}

impl<K: Key, V, P: MergePolicy<V, K::Index>> FusedIterator for Iter<'_, K, V, P> {}

/// An iterator over the gaps of a [`RangeMap`], the ranges without a value, ascending, from both
/// ends.
///
/// Returned by [`RangeMap::gaps`].
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::RangeMap;
///
/// // The lowest eight interrupts in a row that are free.
/// let taken = RangeMap::from([(0_u8..=31, "exceptions"), (36..=36, "disk")]);
/// let free = taken.gaps(..).find(|gap| gap.end() - gap.start() >= 7);
/// assert_eq!(free, Some(37..=255));
/// # }
/// ```
pub struct KeyGaps<'a, K: Key, V, P> {
    entries: Entries<'a, NodeFor<K, V, P>>,
    /// The indices whose gaps have not been returned yet.
    rest: PageRange<K::Index>,
    /// The top key is free, asked for, and not returned yet.
    top: bool,
}

impl<'a, K: Key, V, P> KeyGaps<'a, K, V, P> {
    pub(super) fn new(
        entries: Entries<'a, NodeFor<K, V, P>>,
        rest: PageRange<K::Index>,
        top: bool,
    ) -> Self {
        KeyGaps { entries, rest, top }
    }

    fn first_gap(&mut self) -> Option<PageRange<K::Index>> {
        while !self.rest.is_empty() {
            let next = self
                .entries
                .next()
                .map_or(PageRange::new(self.rest.end, self.rest.end), EntryRef::range);
            let gap = PageRange::new(self.rest.start, next.start.min(self.rest.end));
            self.rest.start = next.end.max(self.rest.start);
            if !gap.is_empty() {
                return Some(gap);
            }
        }
        None
    }

    fn last_gap(&mut self) -> Option<PageRange<K::Index>> {
        while !self.rest.is_empty() {
            let start = self.rest.start;
            let next =
                self.entries.next_back().map_or(PageRange::new(start, start), EntryRef::range);
            let gap = PageRange::new(next.end.max(start), self.rest.end);
            self.rest.end = next.start.min(self.rest.end);
            if !gap.is_empty() {
                return Some(gap);
            }
        }
        None
    }

    /// Returns the gap as keys, with the top key if that belongs to it.
    fn keys(&mut self, gap: PageRange<K::Index>) -> RangeInclusive<K> {
        let bounds = Bounds::from_indices(gap);
        if gap.end == Number::MAX && mem::take(&mut self.top) {
            return bounds.to_top().keys();
        }
        bounds.keys()
    }
}

impl<K: Key, V, P> Clone for KeyGaps<'_, K, V, P> {
    fn clone(&self) -> Self {
        KeyGaps { entries: self.entries.clone(), rest: self.rest, top: self.top }
    }
}

/// Shows the gaps that are still to come.
impl<K: Key + fmt::Debug, V, P> fmt::Debug for KeyGaps<'_, K, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K: Key, V, P> Iterator for KeyGaps<'_, K, V, P> {
    type Item = RangeInclusive<K>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(gap) = self.first_gap() {
            return Some(self.keys(gap));
        }
        mem::take(&mut self.top).then(|| Bounds::TOP.keys())
    }
}

impl<K: Key, V, P> DoubleEndedIterator for KeyGaps<'_, K, V, P> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let before = self.clone();
        let gap = self.last_gap();
        if self.top && gap.is_none_or(|gap| gap.end != Number::MAX) {
            // The top key is a gap of its own, and the gap below it comes next.
            *self = KeyGaps { top: false, ..before };
            return Some(Bounds::TOP.keys());
        }
        gap.map(|gap| self.keys(gap))
    }
}

impl<K: Key, V, P> FusedIterator for KeyGaps<'_, K, V, P> {}

/// An iterator that takes ranges and values out of a [`RangeMap`], ascending, from both ends.
///
/// Returned by [`RangeMap::into_iter`]. O(log n) for each range.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::RangeMap;
///
/// let map = RangeMap::from([(0..=9, String::from("a")), (20..=29, String::from("b"))]);
/// let names: Vec<String> = map.into_iter().map(|(_, name)| name).collect();
/// assert_eq!(names, ["a", "b"]);
/// # }
/// ```
pub struct IntoIter<K: Key, V, A, P>
where
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    map: RangeMap<K, V, A, P>,
}

impl<K, V, A, P> IntoIter<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    pub(super) fn new(map: RangeMap<K, V, A, P>) -> Self {
        Self { map }
    }
}

/// Shows the entries that are still to come.
impl<K, V, A, P> fmt::Debug for IntoIter<K, V, A, P>
where
    K: Key + fmt::Debug,
    V: fmt::Debug,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.iter().fmt(f)
    }
}

impl<K, V, A, P> Iterator for IntoIter<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    type Item = (RangeInclusive<K>, V);

    fn next(&mut self) -> Option<Self::Item> {
        self.map.pop_first()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.map.len(), Some(self.map.len()))
    }
}

impl<K, V, A, P> DoubleEndedIterator for IntoIter<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn next_back(&mut self) -> Option<Self::Item> {
        self.map.pop_last()
    }
}

impl<K, V, A, P> ExactSizeIterator for IntoIter<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
}

impl<K, V, A, P> FusedIterator for IntoIter<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
}
