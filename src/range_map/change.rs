//! Inserting, removing, and changing values.

use core::ops::{RangeBounds, RangeInclusive};

use super::key::{Bounds, Key};
use super::merge_policy::MergePolicy;
use super::{NodeFor, RangeMap, bounds_of, merges_with_top};
use crate::error::Error;
use crate::node::NodeAlloc;
use crate::split_merge::{Merge, NODES_PER_OPERATION};

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
    ///
    /// ```
    /// use kvma::range_map::{RangeMap, RangeNode};
    /// use kvma::{Error, FixedPool};
    ///
    /// // Interrupt numbers of devices, before there is a heap.
    /// static NODES: FixedPool<RangeNode<&str>, 16> = FixedPool::new();
    /// let mut owners = RangeMap::<u8, &str, _>::try_new_in(&NODES)?;
    /// owners.try_insert(32..=47, "legacy")?;
    /// owners.try_insert(40..=40, "clock")?;
    /// assert_eq!((owners.get(40), owners.get(41)), (Some(&"clock"), Some(&"legacy")));
    /// assert_eq!(owners.try_insert(9..9, "nothing"), Err(Error::ZeroLength));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_insert(&mut self, range: impl RangeBounds<K>, mut value: V) -> Result<(), Error> {
        let bounds = Bounds::from_keys(&range)?;
        let indices = self.indices(bounds);
        let nodes = self.tree.remove_cost(indices) + usize::from(!indices.is_empty());
        self.store.free.fill(nodes)?;

        let old_top = self.take_out(bounds);
        if indices.is_empty() {
            self.top = Some(value);
        } else {
            if bounds.has_top() {
                self.top = Some(P::split(&mut value, indices.len()));
            }
            self.tree.insert(indices, (), value, Merge::Both, &mut self.store);
        }
        drop(old_top);
        self.drop_removed();
        Ok(())
    }

    /// Removes the value of every key of `range`. Keys without a value are fine.
    ///
    /// Entries that overlap in part are split. O(log n + ranges removed). Needs a node for each
    /// entry that is split, at most 2.
    ///
    /// # Errors
    ///
    /// Those of [`try_insert`](Self::try_insert).
    pub fn try_remove(&mut self, range: impl RangeBounds<K>) -> Result<(), Error> {
        let bounds = Bounds::from_keys(&range)?;
        self.store.free.fill(self.tree.remove_cost(self.indices(bounds)))?;
        drop(self.take_out(bounds));
        self.drop_removed();
        Ok(())
    }

    /// Takes `bounds` out: entries into the store, and the top's value to the caller, who drops
    /// both once the map is whole again.
    fn take_out(&mut self, bounds: Bounds<K::Index>) -> Option<V> {
        self.tree.remove_range(self.indices(bounds), &mut self.store);
        if bounds.has_top() { self.top.take() } else { None }
    }

    /// Drops the values that were removed or merged into others, and keeps a few of the nodes for
    /// the next call.
    fn drop_removed(&mut self) {
        while let Some((node, entry)) = self.store.removed.pop() {
            self.store.free.put(node);
            drop(entry);
        }
        self.store.trim(NODES_PER_OPERATION);
    }

    /// Removes everything. O(n), needs no node.
    pub fn clear(&mut self) {
        drop(self.take_out(Bounds::all::<K>()));
        self.drop_removed();
    }

    /// Removes the entries for which `keep` returns `false`, each whole. O(n log n), needs no node.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::RangeMap;
    ///
    /// let mut owners = RangeMap::from([(0..=9, "init"), (10..=19, "shell"), (20..=29, "init")]);
    /// owners.retain(|_keys, &owner| owner != "shell");
    /// assert_eq!(owners.gaps(0..30).collect::<Vec<_>>(), [10..=19]);
    /// # }
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(RangeInclusive<K>, &V) -> bool) {
        let has_lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let bounds = bounds_of(entry, top.as_ref());
            if entry.data().is_none_or(|value| keep(bounds.keys(), value)) {
                cursor.move_next();
                continue;
            }
            if let Some(node) = cursor.remove() {
                self.store.removed.push(node);
            }
            if bounds.has_top() {
                *top = None;
            }
        }
        if has_lone_top {
            top.take_if(|value| !keep(Bounds::TOP.keys(), value));
        }
        self.drop_removed();
    }

    /// Calls `change` with each entry's range and value, ascending, then merges the neighbours that
    /// have come to be alike. O(n log n), needs no node.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::RangeMap;
    ///
    /// let mut priority = RangeMap::from([(0..=9, 1), (10..=19, 2)]);
    /// priority.update_all(|_keys, value| *value = 5);
    /// assert_eq!(priority.len(), 1); // they have come to be alike
    /// # }
    /// ```
    pub fn update_all(&mut self, mut change: impl FnMut(RangeInclusive<K>, &mut V)) {
        let has_lone_top = self.lone_top().is_some();
        let top = &mut self.top;
        let mut cursor = self.tree.cursor(Bounds::all::<K>().first);
        while let Some(entry) = cursor.entry() {
            let indices = entry.range();
            // Before the change: after it, nobody could tell whether the two were one range.
            let merged_top = top.take_if(|top| merges_with_top(entry, top));
            cursor.change_data(|value| match merged_top {
                None => change(Bounds::from_indices(indices).keys(), value),
                Some(mut rest) => {
                    P::merge(value, indices.len(), &mut rest);
                    change(Bounds::from_indices(indices).to_top().keys(), value);
                    *top = Some(P::split(value, indices.len()));
                }
            });
            let _ = cursor.merge_prev(&mut self.store);
            cursor.move_next();
        }
        if let (true, Some(value)) = (has_lone_top, top) {
            change(Bounds::TOP.keys(), value);
        }
        self.drop_removed();
    }

    /// Removes the lowest range, and returns it with its value. O(log n), needs no node.
    pub fn pop_first(&mut self) -> Option<(RangeInclusive<K>, V)> {
        let first = self.tree.entries(self.tree.space()).next().map(|entry| entry.range().start);
        self.pop(first)
    }

    /// Removes the highest range, and returns it with its value. O(log n), needs no node.
    pub fn pop_last(&mut self) -> Option<(RangeInclusive<K>, V)> {
        if self.lone_top().is_some() {
            return self.pop(None);
        }
        let last =
            self.tree.entries(self.tree.space()).next_back().map(|entry| entry.range().start);
        self.pop(last)
    }

    /// Removes the entry at `index`, or the top key alone.
    fn pop(&mut self, index: Option<K::Index>) -> Option<(RangeInclusive<K>, V)> {
        let Some(index) = index else {
            return self.top.take().map(|value| (Bounds::TOP.keys(), value));
        };
        let mut cursor = self.tree.cursor(index);
        let entry = cursor.entry()?;
        let indices = entry.range();
        let rest = self.top.take_if(|top| merges_with_top(entry, top));
        let (node, value) = cursor.remove()?.empty();
        self.store.free.put(node);
        self.store.trim(NODES_PER_OPERATION);
        let mut value = value?;
        let mut bounds = Bounds::from_indices(indices);
        if let Some(mut rest) = rest {
            P::merge(&mut value, indices.len(), &mut rest);
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
        copy.store.free.fill(self.tree.len())?;
        for entry in self.tree.entries(self.tree.space()) {
            if let Some(value) = entry.data() {
                let (indices, value) = (entry.range(), value.clone());
                copy.tree.insert(indices, (), value, Merge::Never, &mut copy.store);
            }
        }
        copy.top.clone_from(&self.top);
        Ok(copy)
    }
}
