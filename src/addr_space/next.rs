//! Walks over all VMAs without the lock.

use core::fmt;

use super::lookup::{GuardOf, RefOf, Search, Sought, snapshot_and_data};
use super::{AddrSpace, HasVmMap, VmaSnapshot};
use crate::node::ReadSide;
use crate::node::pinned_data::PinnedData;
use crate::sync::RawLock;
use crate::tree::Busy;
use crate::vma::VmaNode;

#[derive(Clone, Copy)]
struct Next;

impl Sought for Next {
    const SEARCH: Search = Search::Next;
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns the VMA that holds the byte at `addr`, or the next one above it. O(log n).
    ///
    /// Takes no lock and waits for none, whatever the lock's holder does: what is in the way is
    /// only a change of the very VMA, of the gap before it, or of its place in the tree. If one is
    /// in the way 16 times in a row, the lock is taken. Where the allocator is not
    /// [type-stable](crate::NodeAlloc::TYPE_STABLE), where atomics have 32 bits, and for a VMA that
    /// grows down into less than its guard gap, any change of the space is in the way, and so are
    /// those that put something in the place of something else. Claims count as gaps.
    ///
    /// The answer was right at some time during the call.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // Four pages are mapped at 0x4000, and nothing else.
    /// let next = |addr| space.next_vma(addr).map(|vma| vma.range().start());
    /// assert_eq!((next(0x1000), next(0x5123), next(0x8000)), (Some(0x4000), Some(0x4000), None));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn next_vma(&self, addr: u64) -> Option<VmaSnapshot> {
        self.look_up(Next, addr, &(), VmaSnapshot::new)
    }

    /// Finds the VMA as [`next_vma`](Self::next_vma) does, but never waits, as
    /// [`try_lookup`](Self::try_lookup).
    ///
    /// # Errors
    ///
    /// [`Busy`] when changes were always in the way.
    pub fn try_next_vma(&self, addr: u64) -> Result<Option<VmaSnapshot>, Busy> {
        self.try_look_up(Next, addr, &(), VmaSnapshot::new)
    }

    /// Iterates over all VMAs in ascending order without the lock: for `/proc/PID/maps`, a core
    /// dump, statistics. O(log n) each.
    ///
    /// - Each VMA is as it was at one time; different ones may be of different times.
    /// - No two overlap. One that has grown down over an address that was passed already is shown
    ///   from there on.
    /// - An address that is mapped all the while is in one of them, unless what is mapped there is
    ///   [moved](crate::VmMap::relocate) from and to that address meanwhile.
    ///
    /// Others may change the space as they like. The lock is taken only when
    /// [`next_vma`](Self::next_vma) does.
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let map = |addr, prot| {
    /// #     let request = MapRequest::new(Placement::Fixed(addr), 0x1000, Attrs::new(prot));
    /// #     space.map(request, &mut NoHooks)
    /// # };
    /// # map(0x4000, Prot::RX)?;
    /// # map(0x5000, Prot::RW)?;
    /// # map(0x8000, Prot::RW)?;
    /// // Three VMAs are mapped. The pages are counted while somebody has the lock.
    /// let pages = space.inspect(|_| {
    ///     space.snapshots().map(|vma| vma.range().page_count()).sum::<u64>()
    /// });
    /// assert_eq!(pages, 3);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn snapshots(&self) -> Snapshots<'_, M, L> {
        Snapshots { space: self, from: Some(0) }
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L>
where
    M::Data: PinnedData,
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    /// Returns what [`next_vma`](Self::next_vma) returns, and its user data, which is pinned as
    /// [`lookup_pinned`](Self::lookup_pinned) pins it.
    ///
    /// ```
    /// use kvma::pinned::{Shared, StaticDomain};
    /// # use kvma::{AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::VmMap;
    /// # kvma::pinned_domain! { struct Files; }
    /// # let alloc = std::sync::Arc::new(BoxAlloc::new());
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, alloc)?);
    /// # let request = MapRequest::new(Placement::Fixed(0x5000), 0x2000, Attrs::new(Prot::READ));
    /// # space.map(request.with_data(Shared::<_, Files>::new("libc.so")), &mut NoHooks)?;
    /// // `libc.so` is mapped at 0x5000.
    /// let guard = Files::enter();
    /// let (vma, name) = space.next_vma_pinned(0x1000, &guard).expect("there is one");
    /// assert_eq!((vma.range().start(), *name), (0x5000, "libc.so"));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    pub fn next_vma_pinned<'g>(
        &self,
        addr: u64,
        guard: &'g GuardOf<M>,
    ) -> Option<(VmaSnapshot, RefOf<'g, M>)> {
        self.look_up(Next, addr, guard, |hit, page| (hit, page)).map(snapshot_and_data)
    }
}

/// An iterator over snapshots of all VMAs in ascending order, made without the lock by
/// [`AddrSpace::snapshots`].
pub struct Snapshots<'a, M: HasVmMap, L: RawLock> {
    space: &'a AddrSpace<M, L>,
    /// The first byte that has not been passed; `None` at the end.
    from: Option<u64>,
}

impl<M: HasVmMap, L: RawLock> Iterator for Snapshots<'_, M, L>
where
    M::Alloc: ReadSide<VmaNode<M::Data>>,
{
    type Item = VmaSnapshot;

    fn next(&mut self) -> Option<VmaSnapshot> {
        let from = self.from.take()?;
        let vma = self.space.next_vma(from)?.not_below(from);
        self.from = vma.range().last().checked_add(1);
        Some(vma)
    }
}

impl<M: HasVmMap, L: RawLock> Clone for Snapshots<'_, M, L> {
    fn clone(&self) -> Self {
        Self { space: self.space, from: self.from }
    }
}

impl<M: HasVmMap, L: RawLock> fmt::Debug for Snapshots<'_, M, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").field("from", &self.from).finish_non_exhaustive()
    }
}
