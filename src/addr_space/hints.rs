//! Lookups that begin at hints.

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;

use super::{AddrSpace, HasVmMap};
use crate::placement::Placement;
use crate::sync::RawLock;
use crate::tree::HintTable;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Lets lookups begin where `table` says from now on: for spaces with many VMAs. Takes the
    /// lock; O(1), lookups go on meanwhile.
    ///
    /// The operations of an `AddrSpace<VmMap>`, claims, and the calls of `linux` and `compat` that
    /// say at which address begin there, too; other searches of the same call do not.
    ///
    /// A lookup that finds nothing from there walks from the root, and corrects the table. So
    /// answers are as right as without one, and changes of the space need not know of it. A space
    /// without a table pays an instruction or two; one that has fewer than 2,048 VMAs does not ask
    /// its table.
    ///
    /// The memory of a table that is replaced, by one that is twice as large perhaps, goes back
    /// when nobody else can have the space: by [`get_mut`](Self::get_mut), or when it is dropped.
    /// Until then a lookup may still be looking at it.
    ///
    /// Must not be called where the lock is held: see [`inspect`](Self::inspect).
    ///
    /// # Errors
    ///
    /// Returns the table if the allocator is not [type-stable](crate::NodeAlloc::TYPE_STABLE): a
    /// hint might lead to memory that was given back.
    ///
    /// ```
    /// use kvma::addr_space::HintTable;
    /// # use kvma::{AddrSpace, Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RW));
    /// // A space with some thousand VMAs: one slot for each, or twice as many to grow into.
    /// let table = HintTable::boxed(2 * space.len().next_power_of_two());
    /// space.set_hints(table.expect("there is memory")).expect("nodes stay nodes");
    /// space.map(request, &mut NoHooks)?;
    /// assert!(space.lookup(0x5123).is_some());
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn set_hints(&self, table: HintTable) -> Result<(), HintTable> {
        let map = self.inner.lock();
        self.published.set_hints(table)?;
        let map = map.vm_map();
        self.published.publish(map.tree(), map.alloc(), map.page_size());
        Ok(())
    }

    /// Lets lookups begin at the root from now on, as before [`set_hints`](Self::set_hints), which
    /// says when the memory of the table goes back. Takes the lock; O(1).
    ///
    /// Must not be called where the lock is held: see [`inspect`](Self::inspect).
    ///
    /// ```
    /// use kvma::addr_space::HintTable;
    /// # use kvma::{AddrSpace, FixedPool, PageSize, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// let table = HintTable::boxed(4096).expect("there is memory");
    /// space.set_hints(table).expect("nodes stay nodes");
    /// // Most VMAs have gone.
    /// space.clear_hints();
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn clear_hints(&self) {
        let map = self.inner.lock();
        self.published.clear_hints();
        let map = map.vm_map();
        self.published.publish(map.tree(), map.alloc(), map.page_size());
    }

    /// Has the operation on `map` that follows, under the lock, find the VMA at `addr` by a hint.
    #[inline(always)]
    pub(crate) fn aim(&self, map: &M, addr: u64) {
        if self.published.has_hints() {
            self.aim_by_hint(map, addr);
        }
    }

    /// Does so where a mapping at `placement` follows, if that says where.
    #[inline(always)]
    pub(crate) fn aim_at(&self, map: &M, placement: Placement) {
        if self.published.has_hints()
            && let Placement::Fixed(addr) | Placement::FixedNoReplace(addr) = placement
        {
            self.aim_by_hint(map, addr);
        }
    }

    /// Has operations that come back to `addr` find the place by a hint, where the one that has
    /// ended has unmapped something.
    #[inline(always)]
    pub(crate) fn note_gap(&self, map: &M, addr: u64) {
        if self.published.has_hints() {
            self.note_gap_in_table(map, addr);
        }
    }

    #[cold]
    fn note_gap_in_table(&self, map: &M, addr: u64) {
        let map = map.vm_map();
        self.published.note_gap(map.tree(), map.page_size().page(addr));
    }

    #[cold]
    fn aim_by_hint(&self, map: &M, addr: u64) {
        let map = map.vm_map();
        self.published.aim(map.tree(), map.page_size().page(addr));
    }
}
