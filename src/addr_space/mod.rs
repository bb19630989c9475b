//! An address space for many CPUs: a map behind a spinlock, and lookups without it.
//!
//! # Changes
//!
//! Every change preallocates its nodes, then takes the lock; changes the map; releases the lock;
//! and then does the work that it owes: the rest of the TLB flush, dropping what was removed,
//! giving nodes back. Nothing is allocated or freed under the lock, unless other changes have made
//! more nodes necessary than were preallocated.
//!
//! # Page faults
//!
//! [`lookup`](AddrSpace::lookup) does not take the lock unless changes get in its way several times
//! in a row. It returns a copy of the VMA and a token; the handler prepares its page, asleep if
//! need be, then takes the lock of its page table, asks whether the token is
//! [`still_valid`](AddrSpace::still_valid), and only then writes the entry.
//!
//! ```
//! use kvma::addr_space::HasVmMap;
//! use kvma::{AddrSpace, Prot, RawLock, ReadSide, VmaNode};
//! # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, VmMap};
//! # use std::collections::BTreeMap;
//! # use std::sync::Mutex;
//! # type Frame = u64;
//! # fn fresh_frame() -> Frame { 7 }
//! # type PageTable = Mutex<BTreeMap<u64, (Frame, Prot)>>;
//!
//! enum Fault {
//!     /// Return from the trap: the instruction runs again, and may fault again.
//!     Return,
//!     Segv,
//! }
//!
//! fn page_fault<M: HasVmMap, L: RawLock>(
//!     space: &AddrSpace<M, L>,
//!     table: &PageTable,
//!     addr: u64,
//!     access: Prot,
//! ) -> Fault
//! where
//!     M::Alloc: ReadSide<VmaNode<M::Data>>,
//! {
//!     let Some(vma) = space.lookup(addr) else { return Fault::Segv };
//!     if !vma.prot().contains(access) {
//!         return Fault::Segv;
//!     }
//!     if vma.token().is_dead() {
//!         return Fault::Return; // a flush is pending there: a page prepared now would be in vain
//!     }
//!     let frame = fresh_frame(); // may sleep: reads a file, copies a page
//!     let mut table = table.lock().unwrap();
//!     if space.still_valid(vma.token()) {
//!         table.insert(addr & !0xfff, (frame, vma.prot()));
//!     }
//!     Fault::Return // if it was not valid any more, the instruction faults again
//! }
//!
//! # let pool = FixedPool::<VmaNode, 16>::new();
//! # let map = VmMap::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &pool).unwrap();
//! # let space = AddrSpace::new(map);
//! # let table = PageTable::default();
//! # let request = MapRequest::new(Placement::Fixed(0x5000), 0x2000, Attrs::new(Prot::RW));
//! # space.map(request, &mut NoHooks).unwrap();
//! # assert!(matches!(page_fault(&space, &table, 0x6123, Prot::WRITE), Fault::Return));
//! # assert_eq!(table.lock().unwrap()[&0x6000], (7, Prot::RW));
//! # assert!(matches!(page_fault(&space, &table, 0x7123, Prot::WRITE), Fault::Segv));
//! ```
//!
//! Do not repeat the lookup in a loop with interrupts off: the change that is in the way may be
//! waiting for this processor to acknowledge its flush. Return from the trap instead, as above.
//!
//! # No stale page-table entry
//!
//! A change gives the nodes that it touches a new generation, changes the map, lets the hooks edit
//! the page table under its lock, and flushes. So, for one page-table entry:
//!
//! - if the hook comes first, the handler that takes the page-table lock after it sees the
//!   generation that the change left, and its token is not valid;
//! - if the handler comes first, the hook finds its entry, and edits it.
//!
//! That is not all, since other processors may write through entries in their TLBs until the flush
//! has ended, which is after unlock. A page that was prepared meanwhile must not be used: a copy of
//! a page that is still being written, or a fresh page where another processor still sees the
//! former one. So tokens of VMAs that changed are dead as long as a flush is pending at their page.
//! It need not be the flush of that change: a VMA that is mapped where another thread is still
//! unmapping is covered, too.
//!
//! # Lock order
//!
//! ```text
//! space (of two spaces: the one at the lower address first)
//! ├── the kernel's page-table lock, taken in hooks
//! │       still_valid and try_lookup may be called here
//! └── the allocator's lock (only when a change needs more nodes than were preallocated)
//! ```
//!
//! A page-table lock's holder must not call what takes the space's lock: everything but
//! [`try_lookup`](AddrSpace::try_lookup) and [`still_valid`](AddrSpace::still_valid). `flush_wait`,
//! `release` and the dropping of user data come after unlock and may take any lock.

// First, so that rustdoc, which goes by the order of the source, begins with the calls that are
// made most.
mod construct;
mod hints;
mod lookup;
mod lookup_hint;
mod next;
mod operations;

mod batch;
mod claim;
mod fork;
mod transfer;
mod unmap;
mod update_both;
#[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
mod version;

#[cfg(test)]
mod tests;

use core::ops::{Deref, DerefMut};
use core::{fmt, ptr};

pub use self::batch::MAX_VMAS_PER_LOCK_HOLD;
#[cfg(feature = "linux")]
pub(crate) use self::batch::Progress;
pub use self::claim::Claim;
#[cfg(any(feature = "linux", feature = "compat"))]
pub(crate) use self::fork::retry_with_nodes;
pub use self::lookup::VmaSnapshot;
pub use self::lookup_hint::LookupHint;
pub use self::next::Snapshots;
#[cfg(all(feature = "guest", any(feature = "alloc", loom)))]
pub(crate) use self::version::TreeVersion;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::invalidated::InvalidatedParts;
use crate::node::NodeAlloc;
use crate::pending_flush::{FlushSlot, PendingFlushes};
pub(crate) use crate::split_merge::NODES_PER_OPERATION;
use crate::sync::{Guard, Locked, RawLock, Ticket, Word};
use crate::tree::Published;
pub use crate::tree::{Busy, HintTable, Token};
pub use crate::update::Owing;
use crate::update::{Owed, Readers, Update};
use crate::vm_map::VmMap;
use crate::vma::{VmaData, VmaNode};

/// A value that an [`AddrSpace`] can guard: a [`VmMap`], or something that has one in it, such as a
/// layer on top of it or a struct of the kernel's that keeps a page table beside it.
///
/// # A map type of your own
///
/// Implementing this trait is all that it needs; what else is in the struct is guarded by the same
/// lock. [`linux::Mm`](crate::linux::Mm) and [`compat::Mappings`](crate::compat::Mappings) are such
/// types. Its calls with `&self` go through [`AddrSpace::update`] if the hooks are the caller's, or
/// [`AddrSpace::update_inside`] if they lie in the struct; what only looks goes through
/// [`AddrSpace::inspect`]. Inside, nothing but [`try_lookup`](AddrSpace::try_lookup) and
/// [`still_valid`](AddrSpace::still_valid) of the same space may be called. Three nodes are enough
/// for any one operation on a range.
///
/// ```
/// use kvma::addr_space::HasVmMap;
/// use kvma::{AddrSpace, FixedPool, Hooks, PageSize, VmMap, VmaNode};
///
/// # #[derive(Default)] struct PageTable;
/// # impl Hooks<()> for PageTable { type Error = kvma::Error; }
/// # fn wait_for_shootdown() {}
/// type Pool = FixedPool<VmaNode, 16>;
/// # static POOL: Pool = Pool::new();
///
/// struct Memory {
///     map: VmMap<(), &'static Pool>,
///     page_table: PageTable,
/// }
///
/// impl HasVmMap for Memory {
///     type Data = ();
///     type Alloc = &'static Pool;
///
///     fn vm_map(&self) -> &VmMap<(), &'static Pool> {
///         &self.map
///     }
/// }
///
/// # let map = VmMap::new(0..=0xf_ffff, PageSize::SIZE_4K, &POOL)?;
/// let space = AddrSpace::new(Memory { map, page_table: PageTable });
/// let removed = space.update_inside(3, wait_for_shootdown, |memory, owing| {
///     let Memory { map, page_table } = memory;
///     owing.with(page_table, |update| map.unmap(0x1000, 0x1000, update))
/// })?;
/// # assert_eq!(removed, 0);
/// # Ok::<(), kvma::Error>(())
/// ```
pub trait HasVmMap {
    /// The user data in each VMA.
    type Data: VmaData;
    /// The handle of the node allocator.
    type Alloc: NodeAlloc<VmaNode<Self::Data>> + Clone;

    /// Returns the map: always the same field. If the map in it is exchanged for one of another
    /// allocator, changes return [`Error::ForeignNodes`] and lookups take the lock.
    ///
    /// It lies in the struct best. Behind a pointer, such as a `Box`, it could be exchanged
    /// unnoticed, so every change is in the way of lookups then, as with an allocator that is not
    /// [type-stable](crate::NodeAlloc::TYPE_STABLE), and no token is valid until it ends.
    fn vm_map(&self) -> &VmMap<Self::Data, Self::Alloc>;

    /// Returns numbers that readers without the lock see, as they were at the end of some change.
    /// For the layers of this crate: nobody else has a way to ask for them.
    #[doc(hidden)]
    fn shown(&self) -> [u64; SHOWN] {
        [0; SHOWN]
    }
}

/// The number of numbers that a map shows to readers without the lock.
#[doc(hidden)]
pub const SHOWN: usize = 4;

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> HasVmMap for VmMap<V, A> {
    type Data = V;
    type Alloc = A;

    fn vm_map(&self) -> &Self {
        self
    }
}

/// A map `M` behind a lock `L`, with lookups that do not take it.
///
/// The [module's docs](self) say how faults and changes work together, and in which order locks are
/// taken.
///
/// ```
/// use kvma::{AddrSpace, Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, Search};
/// use kvma::{VmMap, VmaNode};
///
/// static POOL: FixedPool<VmaNode, 64> = FixedPool::new();
/// let map = VmMap::new(0x1000..=0x7fff_ffff_ffff, PageSize::SIZE_4K, &POOL)?;
/// let space = AddrSpace::new(map);
/// let request = MapRequest::new(Placement::Any(Search::new()), 0x2000, Attrs::new(Prot::RW));
/// let addr = space.map(request, &mut NoHooks)?;
/// assert_eq!(space.lookup(addr + 0x1234).unwrap().range().start(), addr);
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct AddrSpace<M: HasVmMap, L: RawLock = Ticket> {
    /// The start of every lookup. Atomics, stored under the lock; also holds the allocator's
    /// handle, which never changes and is reached without the lock.
    published: Published<VmaNode<M::Data>, M::Alloc>,
    /// Atomics: taken under the lock, given up after the flush without it.
    pending_flushes: PendingFlushes,
    /// Atomics, stored under the lock.
    invalidated: InvalidatedParts,
    /// The numbers that the map [shows](HasVmMap::shown). Atomics, stored under the lock.
    shown: Shown,
    /// The map is protected by the lock in here.
    inner: Locked<M, L>,
}

/// An address space over a [`PoolVmMap`](crate::vm_map::PoolVmMap).
///
/// ```
/// use kvma::addr_space::PoolAddrSpace;
/// use kvma::{AddrSpace, Error, FixedPool, PageSize, VmMap, VmaNode};
///
/// static NODES: FixedPool<VmaNode, 64> = FixedPool::new();
///
/// /// What a kernel keeps of a process.
/// struct Process {
///     memory: PoolAddrSpace<64>,
/// }
///
/// let map = VmMap::new(0x1000..=0x7fff_ffff_efff, PageSize::SIZE_4K, &NODES)?;
/// let process = Process { memory: AddrSpace::new(map) };
/// assert!(process.memory.lookup(0x5000).is_none());
/// # Ok::<(), Error>(())
/// ```
pub type PoolAddrSpace<const N: usize, V = (), L = Ticket> =
    AddrSpace<crate::vm_map::PoolVmMap<N, V>, L>;

/// An address space over a [`HeapVmMap`](crate::vm_map::HeapVmMap).
///
/// ```
/// use std::sync::Arc;
///
/// use kvma::addr_space::HeapAddrSpace;
/// use kvma::{AddrSpace, BoxAlloc, Error, PageSize, VmMap};
///
/// let map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Arc::new(BoxAlloc::new()))?;
/// let space: HeapAddrSpace = AddrSpace::new(map);
/// std::thread::scope(|scope| {
///     scope.spawn(|| assert!(space.lookup(0x5000).is_none()));
/// });
/// # Ok::<(), Error>(())
/// ```
#[cfg(any(feature = "alloc", loom))]
pub type HeapAddrSpace<V = (), L = Ticket> = AddrSpace<crate::vm_map::HeapVmMap<V>, L>;

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Runs `look` under the lock. Must not be called where the lock is held, and `look` must not
    /// call back into this space: it would hang (or panic, if the lock knows its holder).
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # space.map(four, &mut NoHooks)?;
    /// // `ulimit`, `ps`, /proc/PID/maps: whatever looks at all of it.
    /// let (bytes, text) = space.inspect(|map| (map.mapped_bytes(), map.to_string()));
    /// assert_eq!((bytes, text.lines().count()), (0x4000, 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn inspect<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.inner.lock())
    }

    /// Runs `change` under the lock with `nodes` preallocated nodes, as far as there is memory,
    /// then does the work that is owed. Several operations on the map are one change to everybody
    /// who takes the lock; lookups without it may see each by itself.
    ///
    /// `change` may exchange the map for another one (`mem::swap`): until the lock is released,
    /// lookups without it see VMAs of the former map that have not changed since, and nothing else.
    /// VMAs that the other map brings along have valid tokens from then on, even while the flush of
    /// an earlier change is pending at their addresses: exchange maps when none is.
    ///
    /// Must not be called where the lock is held, and `change` must not call back into this space:
    /// see [`inspect`](Self::inspect).
    ///
    /// ```
    /// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
    /// # use kvma::{Prot, VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
    /// // Two mappings, which others see both or not at all, and one flush at the end.
    /// let at = |addr, prot| MapRequest::new(Placement::Fixed(addr), 0x1000, Attrs::new(prot));
    /// space.update(6, &mut NoHooks, |map, update| {
    ///     map.map(at(0x4000, Prot::RX), update)?;
    ///     map.map(at(0x5000, Prot::RW), update)
    /// })?;
    /// assert_eq!(space.len(), 2);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn update<H: Hooks<M::Data> + ?Sized, R>(
        &self,
        nodes: usize,
        hooks: &mut H,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> R,
    ) -> R {
        let slot = FlushSlot::new(&self.pending_flushes);
        let result = {
            let mut update = self.new_update(&slot, hooks);
            // An operation that needs fewer nodes than there are succeeds; the map counts its need.
            let _ = update.preallocate(nodes);
            change(&mut self.lock_for_change(), &mut update)
            // The update is finished where it is: to move it would be to copy it.
        };
        slot.end_if_forgotten(|| hooks.flush_wait());
        result
    }

    /// Runs `change` as [`update`](Self::update) does, for hooks that lie under the lock
    /// themselves, such as a page table beside the map: `change` gives them to [`Owing::with`]. If
    /// a flush has begun, `wait` is called after unlock, and is to wait until it has ended
    /// everywhere; then removed VMAs are dropped. See [`HasVmMap`] for an example.
    pub fn update_inside<R>(
        &self,
        nodes: usize,
        wait: impl FnOnce(),
        change: impl FnOnce(&mut M, &mut Owing<'_, M::Data, M::Alloc>) -> R,
    ) -> R {
        let owed = Owed::new(self.published.alloc().clone(), self.published.page_size());
        let slot = FlushSlot::new(&self.pending_flushes);
        let mut owing = Owing { owed, readers: self.readers(&slot) };
        let _ = owing.owed.nodes.free.fill(nodes);
        let result = change(&mut self.lock_for_change(), &mut owing);
        owing.end_flush(wait);
        result
    }

    /// Returns the map without taking the lock: nobody else can have it. Lookups find it again when
    /// the guard is dropped. Also gives back the memory of [hints](Self::set_hints) that were
    /// replaced.
    pub fn get_mut(&mut self) -> MapMut<'_, M> {
        self.published.free_old_hints();
        self.published.forget();
        MapMut { map: self.inner.get_mut(), published: &self.published, shown: &self.shown }
    }

    /// Returns the map, out of its lock.
    pub fn into_inner(self) -> M {
        self.inner.into_inner()
    }

    /// Returns an update whose flush readers hear of by way of `slot`.
    pub(crate) fn new_update<'h, H: Hooks<M::Data> + ?Sized>(
        &'h self,
        slot: &'h FlushSlot<'h>,
        hooks: &'h mut H,
    ) -> Update<'h, M::Data, M::Alloc, H> {
        let (alloc, page_size) = (self.published.alloc().clone(), self.published.page_size());
        Update::new(alloc, page_size, hooks, Some(self.readers(slot)))
    }

    /// Returns what readers without the lock are told of a change.
    fn readers<'h>(&'h self, slot: &'h FlushSlot<'h>) -> Readers<'h> {
        Readers { slot, invalidated: &self.invalidated }
    }

    /// Refuses to wait for a lock that the caller holds, as far as the lock knows.
    ///
    /// # Errors
    ///
    /// [`Error::Reentrant`]. Debug builds panic.
    #[inline]
    pub(crate) fn check_reentry(&self) -> Result<(), Error> {
        if self.inner.is_held_by_caller() {
            debug_assert!(
                false,
                "an address space was called where its lock is held: from a hook?"
            );
            return Err(Error::Reentrant);
        }
        Ok(())
    }

    /// Takes the lock for a change.
    pub(crate) fn lock_for_change(&self) -> Change<'_, M, L> {
        let map = self.inner.lock();
        self.published.write_begin();
        let tree = map.vm_map().tree();
        // A tree that is exchanged for another one lies elsewhere then, which it notices when it
        // changes. Behind a pointer it does not, so readers must not begin there meanwhile; and
        // those who have begun must not take what they find for an answer.
        if !lies_within(tree, &*map) {
            self.published.forget();
        }
        tree.set_pending_flushes(self.pending_flushes.in_use());
        tree.hold_begins();
        Change { map, published: &self.published, shown: &self.shown }
    }

    /// Returns what the map shows without the lock. Each number is of some time during the call.
    #[cfg(feature = "linux")]
    pub(crate) fn shown(&self) -> [u64; SHOWN] {
        self.shown.0.each_ref().map(Word::shared)
    }
}

/// The numbers that a map shows to readers without the lock.
struct Shown([Word; SHOWN]);

impl Shown {
    fn new<M: HasVmMap>(map: &M) -> Self {
        Self(map.shown().map(Word::new))
    }

    /// Called by the lock's holder.
    #[inline]
    fn update<M: HasVmMap>(&self, map: &M) {
        for (word, number) in self.0.iter().zip(map.shown()) {
            word.update(number);
        }
    }
}

/// Returns `true` if `part` is a part of `whole`, not something that it points to.
#[inline]
fn lies_within<T, U>(part: &T, whole: &U) -> bool {
    let (part, whole) = (ptr::from_ref(part).addr(), ptr::from_ref(whole).addr());
    part.checked_sub(whole).is_some_and(|offset| offset < size_of::<U>())
}

/// The map while it changes. Dropping it publishes the change and then releases the lock, also when
/// a hook has panicked.
pub(crate) struct Change<'a, M: HasVmMap, L: RawLock> {
    map: Guard<'a, M, L>,
    published: &'a Published<VmaNode<M::Data>, M::Alloc>,
    shown: &'a Shown,
}

impl<M: HasVmMap, L: RawLock> Deref for Change<'_, M, L> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.map
    }
}

impl<M: HasVmMap, L: RawLock> DerefMut for Change<'_, M, L> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.map
    }
}

impl<M: HasVmMap, L: RawLock> Drop for Change<'_, M, L> {
    #[inline]
    fn drop(&mut self) {
        self.shown.update(&*self.map);
        let map = self.map.vm_map();
        map.tree().hold_ends();
        self.published.write_end(map.tree(), map.alloc(), map.page_size());
    }
}

/// The map of a space that nobody else can reach, by [`AddrSpace::get_mut`].
///
/// ```
/// # use kvma::{AddrSpace, Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement};
/// # use kvma::{Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let space = AddrSpace::new(VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?);
/// let mut space = space; // a process that is being made: nobody knows it yet
/// let request = MapRequest::new(Placement::Fixed(0x4000), 0x1000, Attrs::new(Prot::RW));
/// space.get_mut().map(request, &mut NoHooks)?;
/// assert!(space.lookup(0x4000).is_some());
/// # Ok::<(), Error>(())
/// ```
pub struct MapMut<'a, M: HasVmMap> {
    map: &'a mut M,
    published: &'a Published<VmaNode<M::Data>, M::Alloc>,
    shown: &'a Shown,
}

impl<M: HasVmMap> Deref for MapMut<'_, M> {
    type Target = M;

    fn deref(&self) -> &M {
        self.map
    }
}

impl<M: HasVmMap> DerefMut for MapMut<'_, M> {
    fn deref_mut(&mut self) -> &mut M {
        self.map
    }
}

impl<M: HasVmMap> Drop for MapMut<'_, M> {
    fn drop(&mut self) {
        self.shown.update(self.map);
        let map = self.map.vm_map();
        self.published.publish(map.tree(), map.alloc(), map.page_size());
    }
}

impl<M: HasVmMap + fmt::Debug> fmt::Debug for MapMut<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.map.fmt(f)
    }
}

impl<M: HasVmMap, L: RawLock> fmt::Debug for AddrSpace<M, L> {
    /// Does not wait for the lock: prints what it holds only if it is free.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AddrSpace");
        match self.inner.try_lock() {
            Some(map) => debug.field("map", map.vm_map()).finish(),
            None => debug.field("map", &format_args!("<locked>")).finish(),
        }
    }
}

impl<M: HasVmMap, L: RawLock> fmt::Display for AddrSpace<M, L> {
    /// Writes the map as [`VmMap`] does, under the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner.lock().vm_map(), f)
    }
}
