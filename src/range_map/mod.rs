//! A map from ranges of keys to values, for what is not an address space: interrupt numbers, I/O
//! ports, guest memory slots, which file each address comes from.
//!
//! Take [`RangeMap`] where you would take a map, but for whole ranges of keys at once. It stands on
//! the same tree as [`VmMap`](crate::VmMap), and keeps the same promises: every call is O(log n),
//! nothing is allocated half-way through, and nothing changes when memory runs out.
//!
//! - A [`Key`] is any integer of up to 128 bits, a character, an IP address, or a newtype.
//! - An [`Entry`] is a range with its value. A *gap* is a range without.
//! - A [`MergePolicy`] says how values are split and merged: [`Equal`], [`Contiguous`], or your
//!   own.
//! - A [`RangeNode`] is the kind of node that an allocator has to provide.
//!
//! # The largest key
//!
//! A range can hold the largest key of its type, as in `a..=u64::MAX`, for which half-open ranges
//! have no end. So calls take every kind of range, and answers are given as `first..=last`.

// First, so that rustdoc, which goes by the order of the source, begins with these calls.
#[cfg(feature = "alloc")]
mod heap;

mod construct;

mod change;
mod iter;
mod key;
mod merge_policy;
mod traits;

use core::marker::PhantomData;
use core::ops::RangeBounds;

pub use self::iter::{Entry, IntoIter, Iter, KeyGaps};
use self::key::Bounds;
pub use self::key::Key;
pub use self::merge_policy::{Advance, Contiguous, Equal, MergePolicy, RangeNode};
#[cfg(feature = "alloc")]
use crate::node::Heap;
use crate::node::{NodeAlloc, NodeStore};
use crate::position::Number;
pub use crate::position::Position;
use crate::range::PageRange;
use crate::tree::{EntryRef, Tree};

/// The nodes of a map with these keys.
type NodeFor<K, V, P> = RangeNode<V, P, <K as Key>::Index>;

/// A map from ranges of keys to values.
///
/// Ranges do not overlap. Neighbours whose values merge (with the usual policy: are equal) are
/// always one range.
///
/// `K` is the type of [`Key`], `A` a handle of the node allocator, and `P` the [`MergePolicy`].
/// Maps of 128-bit keys have nodes of their own, which are larger: `RangeNode<V, P, u128>`.
///
/// There is no lock inside; changes take `&mut self`. The map keeps up to three free nodes for the
/// next call.
///
/// Every call that takes a range takes `a..b`, `a..=b`, `a..` or `..`.
///
/// Calls named `try_*` work with any allocator: if a node is missing or a range makes no sense,
/// they return an error and change nothing. [`insert`](Self::insert), [`remove`](Self::remove) and
/// the like (feature `alloc`) do the same on the heap, where running out of memory ends as it does
/// for every collection of `std`, and ranges without keys are ignored.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use kvma::range_map::RangeMap;
///
/// let mut map = RangeMap::new();
/// map.insert(0..10, 'a');
/// map.insert(5..15, 'b');
/// assert_eq!(map.find(7).unwrap().range(), 5..=14);
/// map.remove(3..12);
/// let ranges: Vec<_> = map.iter().map(|entry| (entry.range(), *entry.value())).collect();
/// assert_eq!(ranges, [(0..=2, 'a'), (12..=14, 'b')]);
/// assert_eq!(map.gaps(0..15).collect::<Vec<_>>(), [3..=11]);
/// # }
/// ```
pub struct RangeMap<
    K: Key,
    V,
    #[cfg(feature = "alloc")] A: NodeAlloc<NodeFor<K, V, P>> + Clone = Heap,
    #[cfg(not(feature = "alloc"))] A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index> = Equal,
> {
    tree: Tree<NodeFor<K, V, P>>,
    /// The value of the top key, which the tree cannot hold: see [`Bounds`]. If it merges with the
    /// tree's last entry, callers see one range.
    top: Option<V>,
    /// Keeps up to [`NODES_PER_OPERATION`](crate::split_merge::NODES_PER_OPERATION) free nodes from
    /// call to call, so that most calls do not allocate.
    store: NodeStore<NodeFor<K, V, P>, A>,
    key: PhantomData<fn() -> K>,
}

impl<K, V, A, P> RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    /// Returns the handle of the allocator.
    pub fn alloc(&self) -> &A {
        self.store.free.alloc()
    }

    /// Returns the number of ranges.
    ///
    /// O(1), or O(log n) if the largest key of 64 or 128 bits has a value.
    pub fn len(&self) -> usize {
        self.tree.len() + usize::from(self.lone_top().is_some())
    }

    /// Returns `true` if no key has a value. O(1).
    pub fn is_empty(&self) -> bool {
        self.tree.len() == 0 && self.top.is_none()
    }

    /// Returns the entry that holds `key`. O(log n).
    #[doc(alias = "get_key_value")]
    pub fn find(&self, key: K) -> Option<Entry<'_, K, V>> {
        let index = key.index();
        if index == Number::MAX {
            return self.overlapping_bounds(Bounds::TOP).next();
        }
        self.tree.find(index).and_then(|entry| Entry::of_entry::<P>(entry, self.top.as_ref()))
    }

    /// Returns the value of `key`. O(log n).
    pub fn get(&self, key: K) -> Option<&V> {
        let index = key.index();
        if index == Number::MAX {
            return self.find(key).map(|entry| entry.value());
        }
        // Does without the entry's bounds, which nobody asks for.
        self.tree.find(index)?.data()
    }

    /// Returns `true` if `key` has a value. O(log n).
    #[doc(alias = "contains_key")]
    pub fn contains(&self, key: K) -> bool {
        self.find(key).is_some()
    }

    /// Returns `true` if any key of `range` has a value. O(log n).
    ///
    /// `false` for a range without keys.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::RangeMap;
    ///
    /// let ports = RangeMap::from([(0x60_u16..=0x64, "keyboard")]);
    /// assert!(ports.overlaps(0x64..0x70) && !ports.overlaps(0x65..0x70));
    /// # }
    /// ```
    pub fn overlaps(&self, range: impl RangeBounds<K>) -> bool {
        self.overlapping(range).next().is_some()
    }

    /// Returns `true` if every key of `range` has a value. O(log n + ranges).
    ///
    /// `true` for a range without keys.
    pub fn covers(&self, range: impl RangeBounds<K>) -> bool {
        self.gaps(range).next().is_none()
    }

    /// Returns the entries that share a key with `range`, whole, ascending, from both ends.
    ///
    /// There are none for a range without keys. O(log n), then O(1) amortised for each entry.
    pub fn overlapping(&self, range: impl RangeBounds<K>) -> Iter<'_, K, V, P> {
        match Bounds::from_keys(&range) {
            Ok(bounds) => self.overlapping_bounds(bounds),
            Err(_) => Iter::new(self.tree.entries(no_keys()), self.top.as_ref(), None),
        }
    }

    fn overlapping_bounds(&self, bounds: Bounds<K::Index>) -> Iter<'_, K, V, P> {
        let mut indices = self.indices(bounds);
        let mut lone_top = None;
        if bounds.has_top() && self.top.is_some() {
            lone_top = self.lone_top();
            if lone_top.is_none() && indices.is_empty() {
                // Only the top key is asked for, and it belongs to the last entry.
                indices.start -= Number::ONE;
            }
        }
        Iter::new(self.tree.entries(indices), self.top.as_ref(), lone_top)
    }

    /// Returns the gaps in `range`: the parts without a value, ascending, from both ends.
    ///
    /// Gaps are clipped to `range`; there are none for a range without keys. O(log n), then O(1)
    /// amortised for each gap.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::RangeMap;
    ///
    /// let ports = RangeMap::from([(0x60_u16..=0x64, "keyboard"), (0x3f8..=0x3ff, "serial")]);
    /// assert_eq!(ports.gaps(0x60..0x400).collect::<Vec<_>>(), [0x65..=0x3f7]);
    /// # }
    /// ```
    pub fn gaps(&self, range: impl RangeBounds<K>) -> KeyGaps<'_, K, V, P> {
        match Bounds::from_keys(&range) {
            Ok(bounds) => {
                let indices = self.indices(bounds);
                let top_is_free = bounds.has_top() && self.top.is_none();
                KeyGaps::new(self.tree.entries(indices), indices, top_is_free)
            }
            Err(_) => KeyGaps::new(self.tree.entries(no_keys()), no_keys(), false),
        }
    }

    /// Returns all entries, ascending, from both ends.
    pub fn iter(&self) -> Iter<'_, K, V, P> {
        Iter::new(self.tree.entries(self.tree.space()), self.top.as_ref(), self.lone_top())
    }

    /// Returns the entry with the lowest range. O(log n).
    pub fn first_range_value(&self) -> Option<Entry<'_, K, V>> {
        self.iter().next()
    }

    /// Returns the entry with the highest range. O(log n).
    pub fn last_range_value(&self) -> Option<Entry<'_, K, V>> {
        self.iter().next_back()
    }

    /// Checks every invariant of the structure from scratch, for tests. O(n log n).
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        self.tree.check()?;
        let mut before: Option<EntryRef<'_, _>> = None;
        for entry in self.tree.entries(self.tree.space()) {
            let met = before.filter(|before| before.range().end == entry.range().start);
            let values = met.and_then(EntryRef::data).zip(entry.data());
            let keys = met.map_or(Number::ZERO, |met| met.range().len());
            if values.is_some_and(|(left, right)| P::can_merge(left, keys, right)) {
                return Err("neighbours that merge are two ranges");
            }
            before = Some(entry);
        }
        Ok(())
    }

    /// Returns the indices of `bounds` that the tree can hold.
    fn indices(&self, bounds: Bounds<K::Index>) -> PageRange<K::Index> {
        bounds.indices().intersect(self.tree.space())
    }

    /// Returns the value of the top key, if that is a range of its own. O(log n).
    fn lone_top(&self) -> Option<&V> {
        let top = self.top.as_ref()?;
        match self.tree.find(<K::Index>::MAX - Number::ONE) {
            Some(entry) if merges_with_top(entry, top) => None,
            _ => Some(top),
        }
    }
}

/// Returns no indices.
fn no_keys<I: Position>() -> PageRange<I> {
    PageRange::new(I::ZERO, I::ZERO)
}

/// Returns the range that callers see of an entry: with the top key, if that belongs to it.
fn bounds_of<V, P: MergePolicy<V, I>, I: Position>(
    entry: EntryRef<'_, RangeNode<V, P, I>>,
    top: Option<&V>,
) -> Bounds<I> {
    let bounds = Bounds::from_indices(entry.range());
    if top.is_some_and(|top| merges_with_top(entry, top)) { bounds.to_top() } else { bounds }
}

/// Returns `true` if the entry is the tree's last one and is one range with the top key.
fn merges_with_top<V, P: MergePolicy<V, I>, I: Position>(
    entry: EntryRef<'_, RangeNode<V, P, I>>,
    top: &V,
) -> bool {
    let indices = entry.range();
    indices.end == I::MAX
        && entry.data().is_some_and(|value| P::can_merge(value, indices.len(), top))
}

impl<K, V, A, P> Drop for RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    fn drop(&mut self) {
        if let Some(sentinel) = self.tree.dismantle(|node| self.store.removed.push(node)) {
            self.store.free.put(sentinel);
        }
    }
}
