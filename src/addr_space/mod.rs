//! An address space for many CPUs: a map behind a spinlock, and lookups without it.
//!
//! # Changes
//!
//! Every change takes its nodes in hand, then the lock; changes the map; releases the lock; and
//! then does what it owes: the rest of the TLB flush, dropping what was removed, giving nodes back.
//! Nothing is allocated or freed under the lock, unless another change has used up what was in
//! hand.
//!
//! # Page faults
//!
//! [`lookup`](AddrSpace::lookup) does not take the lock. It gives a copy of the VMA and a token;
//! the handler prepares its page, asleep if need be, then takes the lock of its page table, asks
//! whether the token is [`still_valid`](AddrSpace::still_valid), and only then writes the entry.
//!
//! ```
//! use kvma::{AddrSpace, HasVmMap, Prot, RawLock, ReadSide, VmaNode};
//! # use kvma::{Attrs, FixedPool, NoHooks, PageSize, Placement, MapRequest, VmMap};
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
//!     wanted: Prot,
//! ) -> Fault
//! where
//!     M::Alloc: ReadSide<VmaNode<M::Data>>,
//! {
//!     let Some(VMA) = space.lookup(addr) else { return Fault::Segv };
//!     if !VMA.prot().contains(wanted) {
//!         return Fault::Segv;
//!     }
//!     if VMA.token().is_dead() {
//!         return Fault::Return; // a flush is under way there: what is prepared now is in vain
//!     }
//!     let frame = fresh_frame(); // may sleep: reads a file, copies a page
//!     let mut table = table.lock().unwrap();
//!     if space.still_valid(VMA.token()) {
//!         table.insert(addr & !0xfff, (frame, VMA.prot()));
//!     }
//!     Fault::Return // if it was not valid any more, the instruction faults again
//! }
//!
//! # let pool = FixedPool::<VmaNode, 16>::new();
//! # let space = AddrSpace::new(VmMap::new(0x1000, 0xffff, PageSize::SIZE_4K, &pool).unwrap());
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
//! A change marks the nodes that it touches (their generation moves on for good), changes the map,
//! lets the hooks edit the page table under its lock, and flushes. So, for one page-table entry:
//!
//! - if the hook comes first, the handler that takes the page-table lock after it sees the
//!   generation that the change left, and its token is not valid;
//! - if the handler comes first, the hook finds its entry, and edits it.
//!
//! That is not all, since other processors may write through entries in their TLBs until the flush
//! has ended, which is after unlock. What was prepared meanwhile must not be used: a copy of a page
//! that is still being written, or a fresh page where another processor still sees the former one.
//! So tokens of VMAs that changed are dead as long as a flush is under way at their page. It need
//! not be the flush of that change: what is mapped where another thread is still unmapping is
//! covered, too.
//!
//! # Lock order
//!
//! ```text
//! space (of two spaces: that at the lower address first)
//! ├── the owner's page-table lock, taken in hooks
//! │       still_valid and try_lookup may be called here
//! └── the allocator's lock (only when a change needs more nodes than it took in hand)
//! ```
//!
//! A page-table lock's holder must not call what takes the space's lock: that is everything but
//! [`try_lookup`](AddrSpace::try_lookup) and [`still_valid`](AddrSpace::still_valid). `flush_wait`
//! and the dropping of the owner's data come after unlock and may take what they like.

mod claim;
mod lookup;
mod pair;
mod pieces;
mod retry_with_nodes;

pub use crate::tree::{Busy, Token};
pub use claim::Claim;
pub use lookup::Snapshot;
pub use pieces::MAX_VMAS_PER_LOCK_HOLD;
pub(crate) use retry_with_nodes::retry_with_nodes;

use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::pending_flush::PendingFlushes;
use crate::sync::{Guard, Locked, RawLock, Ticket};
use crate::tree::Published;
use crate::update::Update;
use crate::vm_map::{MapRequest, VmMap};
use crate::vma::{VmaData, VmaNode};
use core::ops::{Deref, DerefMut};

/// What an [`AddrSpace`] can guard: a [`VmMap`], or a layer on top of one.
pub trait HasVmMap {
    /// The owner's data in each VMA.
    type Data: VmaData;
    /// The handle of the node allocator.
    type Alloc: NodeAlloc<VmaNode<Self::Data>> + Clone;

    /// The map at the bottom: always the same one. If it is exchanged for one of another allocator,
    /// changes answer [`Error::ForeignNodes`] and lookups take the lock.
    fn vm_map(&self) -> &VmMap<Self::Data, Self::Alloc>;
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> HasVmMap for VmMap<V, A> {
    type Data = V;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<V, A> {
        self
    }
}

/// Nodes that any one operation on a range may need.
pub(crate) const WORST_CASE: usize = 3;

/// A map `M` behind a lock `L`, with lookups that do not take it.
///
/// The [module's docs](self) say how faults and changes work together, and in which order locks are
/// taken.
pub struct AddrSpace<M: HasVmMap, L: RawLock = Ticket> {
    /// Where lookups start. Atomics, stored under the lock; also holds the allocator's handle,
    /// which never changes and is reached without the lock.
    published: Published<VmaNode<M::Data>, M::Alloc>,
    /// Atomics: taken under the lock, given up after the flush without it.
    pending_flushes: PendingFlushes,
    /// The map is protected by the lock in here.
    inner: Locked<M, L>,
}

impl<M: HasVmMap> AddrSpace<M, Ticket> {
    /// Puts `map` behind a ticket lock.
    pub fn new(map: M) -> Self {
        Self::with_lock(map, Ticket::new())
    }
}

impl<M: HasVmMap, L: RawLock> AddrSpace<M, L> {
    /// Puts `map` behind `lock`, which must be free and guard nothing else.
    pub fn with_lock(map: M, lock: L) -> Self {
        let inner = map.vm_map();
        let published = Published::new(inner.alloc().clone(), inner.page_size());
        published.publish(inner.tree(), inner.alloc(), inner.page_size());
        AddrSpace {
            published,
            pending_flushes: PendingFlushes::new(),
            inner: Locked::new(map, lock),
        }
    }

    /// Runs `look` under the lock. It must not call back into this space.
    pub fn inspect<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.inner.lock())
    }

    /// Runs `change` under the lock with `nodes` nodes in hand, as far as there is memory, then
    /// does what it owes. Several operations on the map are one change to everybody who takes the
    /// lock; lookups without it may see each by itself.
    pub fn update<H: Hooks<M::Data>, R>(
        &self,
        nodes: usize,
        hooks: &mut H,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> R,
    ) -> R {
        let mut update = self.owed(hooks);
        // Whoever needs fewer nodes than there are succeeds; the map counts what it needs.
        let _ = update.reserve(nodes);
        let result = change(&mut self.begin(), &mut update);
        update.finish();
        result
    }

    /// The map, without the lock: nobody else can have it. The first lookup afterwards takes the
    /// lock.
    pub fn get_mut(&mut self) -> &mut M {
        self.published.forget();
        self.inner.get_mut()
    }

    /// The map, out of its lock.
    pub fn into_inner(self) -> M {
        self.inner.into_inner()
    }

    /// What carries hooks into changes, and owed work out of them.
    pub(crate) fn owed<'h, H: Hooks<M::Data>>(
        &'h self,
        hooks: &'h mut H,
    ) -> Update<'h, M::Data, M::Alloc, H> {
        Update::watched(self.published.alloc().clone(), hooks, &self.pending_flushes)
    }

    /// Takes the lock for a change.
    pub(crate) fn begin(&self) -> Change<'_, M, L> {
        let map = self.inner.lock();
        self.published.begin();
        map.vm_map().tree().set_flights(self.pending_flushes.in_use());
        Change { map, published: &self.published }
    }
}

/// The map while it changes. Dropping it publishes the change and then releases the lock, also when
/// a hook has panicked.
pub(crate) struct Change<'a, M: HasVmMap, L: RawLock> {
    map: Guard<'a, M, L>,
    published: &'a Published<VmaNode<M::Data>, M::Alloc>,
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
        let map = self.map.vm_map();
        self.published.end(map.tree(), map.alloc(), map.page_size());
    }
}

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// [`VmMap::map`].
    pub fn map(&self, request: MapRequest<V>, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |map, update| map.map(request, update))
    }

    /// [`VmMap::protect`].
    pub fn protect(
        &self,
        start: u64,
        len: u64,
        prot: Prot,
        hooks: &mut impl Hooks<V>,
    ) -> Result<(), Error> {
        self.update(WORST_CASE, hooks, |map, update| map.protect(start, len, prot, update))
    }
}
