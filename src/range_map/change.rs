//! Inserting, removing, and changing values.

use super::key::{Bounds, Key};
use super::merge_policy::MergePolicy;
use super::{MAX_NODES, NodeFor, RangeMap, bounds_of, merges_with_top};
use crate::error::Error;
use crate::node::{NodeAlloc, Removed};
use crate::ranges::Merge;
use core::ops::{RangeBounds, RangeInclusive};

/// What was taken out of a map: entries of the tree, and the top key's value.
type TakenOut<K, V, A, P> = (Removed<NodeFor<K, V, P>, A>, Option<V>);

impl<K, V, A, P> RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    /// Gives every key of `range` this value, whatever it had before.
    ///
    /// Entries that overlap in part are split; neighbours that can merge become one. O(log n +
    /// ranges replaced). Needs at most 3 nodes.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`] for a range without keys, [`Error::OutOfRange`] for one that ends
    /// before it starts, [`Error::OutOfMemory`]. Then nothing has changed, and the value is
    /// dropped.
    pub fn try_insert(&mut self, range: impl RangeBounds<K>, mut value: V) -> Result<(), Error> {
        let bounds = Bounds::of(&range)?;
        let span = self.span(bounds);
        self.nodes.fill(self.tree.remove_cost(span) + usize::from(!span.is_empty()))?;

        let taken_out = self.take_out(bounds);
        if span.is_empty() {
            self.top = Some(value);
        } else {
            if bounds.has_top() {
                self.top = Some(P::split(&mut value, span.len()));
            }
            self.tree.place(span, (), value, Merge::Both, &mut self.nodes);
        }
        self.drop_all(taken_out);
        Ok(())
    }

    /// Removes the value of every key of `range`. Keys without a value are fine.
    ///
    /// Entries that overlap in part are split. O(log n + ranges removed). Needs a node for each
    /// entry that is split, at most 2.
    ///
    /// # Errors
    ///
    /// As for [`try_insert`](Self::try_insert).
    pub fn try_remove(&mut self, range: impl RangeBounds<K>) -> Result<(), Error> {
        let bounds = Bounds::of(&range)?;
        self.nodes.fill(self.tree.remove_cost(self.span(bounds)))?;
        let taken_out = self.take_out(bounds);
        self.drop_all(taken_out);
        Ok(())
    }

    /// Takes `bounds` out. The caller drops what was there once the map is whole again.
    fn take_out(&mut self, bounds: Bounds<K::Index>) -> TakenOut<K, V, A, P> {
        let mut removed = Removed::new(self.alloc().clone());
        self.tree.remove_range(self.span(bounds), &mut self.nodes, &mut removed);
        (removed, if bounds.has_top() { self.top.take() } else { None })
    }

    /// Drops what was taken out, and keeps a few of the nodes for the next call.
    fn drop_all(&mut self, (mut removed, top): TakenOut<K, V, A, P>) {
        drop(top);
        removed.drop_all(&mut self.nodes, MAX_NODES);
        self.nodes.trim(MAX_NODES);
    }

    /// Removes everything. O(n), needs no node.
    pub fn clear(&mut self) {
        let taken_out = self.take_out(Bounds::all::<K>());
        self.drop_all(taken_out);
    }

    /// Removes the entries for which `keep` returns `false`, each whole. O(n log n), needs no node.
    pub fn retain(&mut self, mut keep: impl FnMut(RangeInclusive<K>, &V) -> bool) {
        let mut removed = Removed::new(self.alloc().clone());
        let has_lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let bounds = bounds_of(entry, top.as_ref());
            if keep(bounds.keys(), entry.data()) {
                cursor.move_next();
                continue;
            }
            if let Some(node) = cursor.remove() {
                removed.push(node);
            }
            if bounds.has_top() {
                *top = None;
            }
        }
        if has_lone_top {
            top.take_if(|value| !keep(Bounds::TOP.keys(), value));
        }
        self.drop_all((removed, None));
    }

    /// Calls `change` with each entry's range and value, ascending, then merges the neighbours that
    /// have come to be alike. O(n log n), needs no node.
    pub fn update_all(&mut self, mut change: impl FnMut(RangeInclusive<K>, &mut V)) {
        let has_lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let span = entry.span();
            // Before the change: after it, nobody could tell whether the two were one range.
            let merged_top = top.take_if(|top| merges_with_top(entry, top));
            cursor.change_data(|value| match merged_top {
                None => change(Bounds::of_span(span).keys(), value),
                Some(rest) => {
                    P::merge(value, span.len(), rest);
                    change(Bounds::of_span(span).to_top().keys(), value);
                    *top = Some(P::split(value, span.len()));
                }
            });
            let _ = cursor.join_prev(&mut self.nodes);
            cursor.move_next();
        }
        if let (true, Some(value)) = (has_lone_top, top) {
            change(Bounds::TOP.keys(), value);
        }
        self.nodes.trim(MAX_NODES);
    }

    /// Removes the lowest range, and returns it with its value. O(log n), needs no node.
    pub fn pop_first(&mut self) -> Option<(RangeInclusive<K>, V)> {
        let first = self.tree.entries(self.tree.space()).next().map(|entry| entry.span().start);
        self.pop(first)
    }

    /// Removes the highest range, and returns it with its value. O(log n), needs no node.
    pub fn pop_last(&mut self) -> Option<(RangeInclusive<K>, V)> {
        if self.lone_top().is_some() {
            return self.pop(None);
        }
        let last = self.tree.entries(self.tree.space()).next_back().map(|entry| entry.span().start);
        self.pop(last)
    }

    /// Removes the entry at `index`, or the top key alone.
    fn pop(&mut self, index: Option<K::Index>) -> Option<(RangeInclusive<K>, V)> {
        let Some(index) = index else {
            return self.top.take().map(|value| (Bounds::TOP.keys(), value));
        };
        let mut cursor = self.tree.cursor(index);
        let entry = cursor.entry()?;
        let span = entry.span();
        let rest = self.top.take_if(|top| merges_with_top(entry, top));
        let (node, mut value) = cursor.remove()?.empty();
        self.nodes.put(node);
        self.nodes.trim(MAX_NODES);
        let mut bounds = Bounds::of_span(span);
        if let Some(rest) = rest {
            P::merge(&mut value, span.len(), rest);
            bounds = bounds.to_top();
        }
        Some((bounds.keys(), value))
    }

    /// Returns a copy of the map, in nodes of `alloc`. O(n).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], which leaves nothing behind.
    pub fn try_clone_in(&self, alloc: A) -> Result<Self, Error>
    where
        V: Clone,
    {
        let mut copy = Self::try_new_in(alloc)?;
        copy.nodes.fill(self.tree.len())?;
        for entry in self.tree.entries(self.tree.space()) {
            copy.tree.place(entry.span(), (), entry.data().clone(), Merge::Never, &mut copy.nodes);
        }
        copy.top.clone_from(&self.top);
        Ok(copy)
    }
}
