//! A map from ranges of keys to values, for what is not an address space: interrupt numbers, I/O
//! ports, guest memory slots, which file each address comes from.
//!
//! It stands on the same tree as [`VmMap`](crate::VmMap), with the same promises: O(log n), no
//! allocation half-way through, nothing changes when memory runs out.

mod bounds;
mod change;
#[cfg(feature = "alloc")]
mod heap;
mod iter;
mod key;
mod order;
mod policy;
mod traits;

pub use crate::position::Position;
pub use iter::{Entry, Gaps, IntoIter, Iter};
pub use key::Key;
pub use policy::{Advance, Contiguous, Equal, Policy, RangeNode};

use crate::error::Error;
use crate::node::{NodeAlloc, Preallocated, Removed};
use crate::position::Number;
use crate::range::Span;
use crate::tree::{EntryRef, Tree};
use bounds::Bounds;
use core::marker::PhantomData;
use core::ops::RangeBounds;

#[cfg(feature = "alloc")]
use crate::node::Heap;

/// Nodes that any one call needs at most.
const SPARE: usize = 3;

/// The nodes of a map with these keys.
type NodeFor<K, V, P> = RangeNode<V, P, <K as Key>::Index>;

/// Ranges of keys with a value each. Ranges do not overlap; neighbours whose values join (for most:
/// are equal) are always one range.
///
/// `K` is any integer, a newtype of one, or what else is a [`Key`]; `A` a handle of the node
/// allocator; `P` the [`Policy`] that splits and joins values. Maps of 128-bit keys have larger
/// nodes of their own, `RangeNode<V, P, u128>`.
///
/// No lock of its own: `&mut self` changes it. It keeps up to three spare nodes for the next call.
///
/// Every call that takes a range takes `a..b`, `a..=b`, `a..`, `..`: the largest key can be part of
/// a range, as in `a..=u64::MAX`. Answers give ranges as `first..=last` for the same reason.
///
/// Calls named `try_*` work with any allocator: they return an error and change nothing when a node
/// is missing or a range makes no sense. `insert`, `remove` and the like (feature `alloc`) are the
/// same on the heap, where running out of memory ends as it does for every collection of `std`, and
/// a range without keys is passed over.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// # use kvma::RangeMap;
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
    P: Policy<V, K::Index> = Equal,
> {
    tree: Tree<NodeFor<K, V, P>>,
    /// The value of the top key, which the tree has no room for, see [`Bounds`]. If it joins the
    /// tree's last entry, the two are one range to everybody outside.
    top: Option<V>,
    /// Keeps up to [`SPARE`] nodes from call to call, so that most calls do not allocate.
    nodes: Preallocated<NodeFor<K, V, P>, A>,
    key: PhantomData<fn() -> K>,
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>>
    RangeMap<K, V, A, P>
{
    /// An empty map. Takes one node. [`Error::OutOfMemory`], or [`Error::OutOfRange`] if the key's
    /// `MIN` lies above its `MAX`.
    pub fn try_new_in(alloc: A) -> Result<Self, Error> {
        let all = Bounds::all::<K>();
        if all.first > all.last {
            return Err(Error::OutOfRange);
        }
        let mut nodes = Preallocated::new(alloc);
        nodes.fill(1)?;
        let sentinel = nodes.take().ok_or(Error::OutOfMemory)?;
        let tree = Tree::new(all.span(), sentinel);
        Ok(RangeMap { tree, top: None, nodes, key: PhantomData })
    }

    /// The handle of the allocator.
    pub fn alloc(&self) -> &A {
        self.nodes.alloc()
    }

    /// Number of ranges. O(1), or O(log n) if the largest key of 64 or 128 bits has a value.
    pub fn len(&self) -> usize {
        self.tree.len() + usize::from(self.lone_top().is_some())
    }

    /// Whether no key has a value. O(1).
    pub fn is_empty(&self) -> bool {
        self.tree.len() == 0 && self.top.is_none()
    }

    /// The range that holds `key`. O(log n).
    #[doc(alias = "get_key_value")]
    pub fn find(&self, key: K) -> Option<Entry<'_, K, V>> {
        let index = key.index();
        if index == Number::MAX {
            return self.overlapping_bounds(Bounds::TOP).next();
        }
        self.tree.find(index).map(|entry| Entry::of_entry::<P>(entry, self.top.as_ref()))
    }

    /// The value of `key`. O(log n).
    pub fn get(&self, key: K) -> Option<&V> {
        self.find(key).map(|entry| entry.into_value())
    }

    /// Whether `key` has a value. O(log n).
    #[doc(alias = "contains_key")]
    pub fn contains(&self, key: K) -> bool {
        self.find(key).is_some()
    }

    /// Whether any key of `range` has a value; false for a range without keys. O(log n).
    pub fn overlaps(&self, range: impl RangeBounds<K>) -> bool {
        self.overlapping(range).next().is_some()
    }

    /// Whether every key of `range` has a value; true for a range without keys. O(log n + ranges).
    pub fn covers(&self, range: impl RangeBounds<K>) -> bool {
        self.gaps(range).next().is_none()
    }

    /// The ranges that share a key with `range`, whole, ascending, from both ends. None for a range
    /// without keys. O(log n), then O(1) amortised a range.
    pub fn overlapping(&self, range: impl RangeBounds<K>) -> Iter<'_, K, V, P> {
        match Bounds::of(&range) {
            Ok(bounds) => self.overlapping_bounds(bounds),
            Err(_) => Iter::new(self.tree.no_entries(), self.top.as_ref(), None),
        }
    }

    fn overlapping_bounds(&self, bounds: Bounds<K::Index>) -> Iter<'_, K, V, P> {
        let mut span = self.span(bounds);
        let mut lone = None;
        if bounds.has_top() && self.top.is_some() {
            lone = self.lone_top();
            if lone.is_none() && span.is_empty() {
                // Only the top key is asked for, and it belongs to the last entry.
                span.start -= Number::ONE;
            }
        }
        Iter::new(self.tree.entries(span), self.top.as_ref(), lone)
    }

    /// The parts of `range` that have no value, cut to it, ascending, from both ends. O(log n),
    /// then O(1) amortised a gap.
    pub fn gaps(&self, range: impl RangeBounds<K>) -> Gaps<'_, K, V, P> {
        match Bounds::of(&range) {
            Ok(bounds) => {
                let span = self.span(bounds);
                Gaps::new(self.tree.entries(span), span, bounds.has_top() && self.top.is_none())
            }
            Err(_) => {
                Gaps::new(self.tree.no_entries(), Span::new(Number::ZERO, Number::ZERO), false)
            }
        }
    }

    /// All ranges, ascending, from both ends.
    pub fn iter(&self) -> Iter<'_, K, V, P> {
        Iter::new(self.tree.entries(self.tree.space()), self.top.as_ref(), self.lone_top())
    }

    /// The lowest range and its value. O(log n).
    pub fn first_range_value(&self) -> Option<Entry<'_, K, V>> {
        self.iter().next()
    }

    /// The highest range and its value. O(log n).
    pub fn last_range_value(&self) -> Option<Entry<'_, K, V>> {
        self.iter().next_back()
    }

    /// Checks every invariant of the structure, from scratch, in O(n log n): the first thing wrong.
    /// For tests.
    pub fn check(&self) -> Result<(), &'static str> {
        self.tree.check()?;
        let mut before: Option<EntryRef<'_, _>> = None;
        for entry in self.tree.entries(self.tree.space()) {
            let joins = before.is_some_and(|before| {
                let left = before.span();
                left.end == entry.span().start && P::joins(before.data(), left.len(), entry.data())
            });
            if joins {
                return Err("neighbours that join are two ranges");
            }
            before = Some(entry);
        }
        Ok(())
    }

    /// The indices of `bounds` that the tree has room for.
    fn span(&self, bounds: Bounds<K::Index>) -> Span<K::Index> {
        bounds.span().intersect(self.tree.space())
    }

    /// The value of the top key, if it is a range of its own. O(log n).
    fn lone_top(&self) -> Option<&V> {
        let top = self.top.as_ref()?;
        match self.tree.find(<K::Index>::MAX - Number::ONE) {
            Some(entry) if joins_top(entry, top) => None,
            _ => Some(top),
        }
    }
}

/// What an entry is to everybody outside: the top key belongs to it if the two join.
fn bounds_of<V, P: Policy<V, I>, I: Position>(
    entry: EntryRef<'_, RangeNode<V, P, I>>,
    top: Option<&V>,
) -> Bounds<I> {
    let bounds = Bounds::of_span(entry.span());
    if top.is_some_and(|top| joins_top(entry, top)) { bounds.to_top() } else { bounds }
}

/// Whether the tree's last entry and the top key are one range.
fn joins_top<V, P: Policy<V, I>, I: Position>(
    entry: EntryRef<'_, RangeNode<V, P, I>>,
    top: &V,
) -> bool {
    let span = entry.span();
    span.end == I::MAX && P::joins(entry.data(), span.len(), top)
}

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>> Drop
    for RangeMap<K, V, A, P>
{
    fn drop(&mut self) {
        let mut gathered = Removed::new(self.alloc().clone());
        if let Some(sentinel) = self.tree.dismantle(|loose| gathered.push(loose)) {
            self.nodes.put(sentinel);
        }
    }
}
