//! Inserting, removing, changing.

use super::bounds::Bounds;
use super::key::Key;
use super::policy::Policy;
use super::{NodeFor, RangeMap, SPARE, bounds_of, joins_top};
use crate::error::Error;
use crate::node::{NodeAlloc, Removed};
use crate::ranges::Merge;
use core::ops::{RangeBounds, RangeInclusive};

/// What was taken out: ranges, and the top key's value.
type Gone<K, V, A, P> = (Removed<NodeFor<K, V, P>, A>, Option<V>);

impl<K: Key, V, A: NodeAlloc<NodeFor<K, V, P>> + Clone, P: Policy<V, K::Index>>
    RangeMap<K, V, A, P>
{
    /// Gives every key of `range` this value, whatever it had before. What overlaps in part is cut;
    /// neighbours that join become one.
    ///
    /// O(log n + ranges replaced). Takes at most 3 nodes. [`Error::ZeroLength`] for a range without
    /// keys, [`Error::OutOfRange`] for one that ends before it starts, [`Error::OutOfMemory`]; then
    /// nothing has changed, and the value is dropped.
    pub fn try_insert(&mut self, range: impl RangeBounds<K>, mut value: V) -> Result<(), Error> {
        let bounds = Bounds::of(&range)?;
        let span = self.span(bounds);
        self.nodes.fill(self.tree.remove_cost(span) + usize::from(!span.is_empty()))?;

        let gone = self.take_out(bounds);
        if span.is_empty() {
            self.top = Some(value);
        } else {
            if bounds.has_top() {
                self.top = Some(P::split(&mut value, span.len()));
            }
            self.tree.place(span, (), value, Merge::Both, &mut self.nodes);
        }
        self.drop_all(gone);
        Ok(())
    }

    /// Takes the value of every key of `range` away. What overlaps in part is cut; keys without a
    /// value are fine.
    ///
    /// O(log n + ranges removed). Takes a node for each range that is cut, at most 2. Errors as for
    /// [`try_insert`](Self::try_insert).
    pub fn try_remove(&mut self, range: impl RangeBounds<K>) -> Result<(), Error> {
        let bounds = Bounds::of(&range)?;
        self.nodes.fill(self.tree.remove_cost(self.span(bounds)))?;
        let gone = self.take_out(bounds);
        self.drop_all(gone);
        Ok(())
    }

    /// Takes `bounds` out. The caller drops what was there when the map is whole again.
    fn take_out(&mut self, bounds: Bounds<K::Index>) -> Gone<K, V, A, P> {
        let mut gone = Removed::new(self.alloc().clone());
        self.tree.remove_range(self.span(bounds), &mut self.nodes, &mut gone);
        (gone, if bounds.has_top() { self.top.take() } else { None })
    }

    /// Drops what was taken out, and keeps a few of the nodes for the next call.
    fn drop_all(&mut self, (mut gone, top): Gone<K, V, A, P>) {
        drop(top);
        gone.drop_all(&mut self.nodes, SPARE);
        self.nodes.trim(SPARE);
    }

    /// Removes everything. O(n), needs no memory.
    pub fn clear(&mut self) {
        let gone = self.take_out(Bounds::all::<K>());
        self.drop_all(gone);
    }

    /// Removes the ranges that `keep` does not want, each whole. O(n log n), needs no memory.
    pub fn retain(&mut self, mut keep: impl FnMut(RangeInclusive<K>, &V) -> bool) {
        let mut gone = Removed::new(self.alloc().clone());
        let lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let bounds = bounds_of(entry, top.as_ref());
            if keep(bounds.keys(), entry.data()) {
                cursor.move_next();
                continue;
            }
            if let Some(loose) = cursor.remove() {
                gone.push(loose);
            }
            if bounds.has_top() {
                *top = None;
            }
        }
        if lone_top {
            top.take_if(|value| !keep(Bounds::TOP.keys(), value));
        }
        self.drop_all((gone, None));
    }

    /// Lets `change` have each value, ascending, once for each range; then joins the neighbours
    /// that have come to join. O(n log n), needs no memory.
    pub fn update_all(&mut self, mut change: impl FnMut(RangeInclusive<K>, &mut V)) {
        let lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let span = entry.span();
            // Before it changes: afterwards nobody could tell whether the two were one range.
            let joined = top.take_if(|top| joins_top(entry, top));
            cursor.change_data(|value| match joined {
                None => change(Bounds::of_span(span).keys(), value),
                Some(rest) => {
                    P::join(value, span.len(), rest);
                    change(Bounds::of_span(span).to_top().keys(), value);
                    *top = Some(P::split(value, span.len()));
                }
            });
            let _ = cursor.join_prev(&mut self.nodes);
            cursor.move_next();
        }
        if let (true, Some(value)) = (lone_top, top) {
            change(Bounds::TOP.keys(), value);
        }
        self.nodes.trim(SPARE);
    }

    /// Takes the lowest range out. O(log n), needs no memory.
    pub fn pop_first(&mut self) -> Option<(RangeInclusive<K>, V)> {
        let first = self.tree.entries(self.tree.space()).next().map(|entry| entry.span().start);
        self.pop(first)
    }

    /// Takes the highest range out. O(log n), needs no memory.
    pub fn pop_last(&mut self) -> Option<(RangeInclusive<K>, V)> {
        if self.lone_top().is_some() {
            return self.pop(None);
        }
        let last = self.tree.entries(self.tree.space()).next_back().map(|entry| entry.span().start);
        self.pop(last)
    }

    /// Takes the entry at `index` out, or the top key alone.
    fn pop(&mut self, index: Option<K::Index>) -> Option<(RangeInclusive<K>, V)> {
        let Some(index) = index else {
            return self.top.take().map(|value| (Bounds::TOP.keys(), value));
        };
        let mut cursor = self.tree.cursor(index);
        let entry = cursor.entry()?;
        let span = entry.span();
        let rest = self.top.take_if(|top| joins_top(entry, top));
        let (spare, mut value) = cursor.remove()?.empty();
        self.nodes.put(spare);
        self.nodes.trim(SPARE);
        let mut bounds = Bounds::of_span(span);
        if let Some(rest) = rest {
            P::join(&mut value, span.len(), rest);
            bounds = bounds.to_top();
        }
        Some((bounds.keys(), value))
    }

    /// A copy, in nodes of `alloc`. O(n). [`Error::OutOfMemory`] leaves nothing behind.
    pub fn try_clone_in(&self, alloc: A) -> Result<Self, Error>
    where
        V: Clone,
    {
        let mut copy = RangeMap::try_new_in(alloc)?;
        copy.nodes.fill(self.tree.len())?;
        for entry in self.tree.entries(self.tree.space()) {
            copy.tree.place(entry.span(), (), entry.data().clone(), Merge::Never, &mut copy.nodes);
        }
        copy.top.clone_from(&self.top);
        Ok(copy)
    }
}
