//! Creating a map.

use core::marker::PhantomData;

use super::key::{Bounds, Key};
use super::merge_policy::MergePolicy;
use super::{NodeFor, RangeMap};
use crate::error::Error;
use crate::node::{NodeAlloc, NodeStore};
use crate::tree::Tree;

impl<K, V, A, P> RangeMap<K, V, A, P>
where
    K: Key,
    A: NodeAlloc<NodeFor<K, V, P>> + Clone,
    P: MergePolicy<V, K::Index>,
{
    /// Returns an empty map with nodes of `alloc`.
    ///
    /// Takes one node.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], or [`Error::OutOfRange`] if the key's `MIN` lies above its `MAX`.
    ///
    /// ```
    /// use kvma::range_map::{RangeMap, RangeNode};
    /// use kvma::{Error, FixedPool};
    ///
    /// // Without a heap: room for 15 ranges, as the map itself takes a node.
    /// static NODES: FixedPool<RangeNode<u32>, 16> = FixedPool::new();
    /// let mut ports = RangeMap::<u16, u32, _>::try_new_in(&NODES)?;
    /// ports.try_insert(1024..=u16::MAX, 1000)?;
    /// assert_eq!(ports.get(8080), Some(&1000));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_new_in(alloc: A) -> Result<Self, Error> {
        let all = Bounds::all::<K>();
        if all.first > all.last {
            return Err(Error::OutOfRange);
        }
        let mut store = NodeStore::new(alloc);
        store.free.fill(1)?;
        let sentinel = store.free.take().ok_or(Error::OutOfMemory)?;
        let tree = Tree::new(all.indices(), (), sentinel);
        Ok(Self { tree, top: None, store, key: PhantomData })
    }
}
