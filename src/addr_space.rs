//! An address space for many CPUs: a map behind a spinlock.

use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::sync::{Locked, RawLock, Ticket};
use crate::update::Update;
use crate::vm_map::{Request, VmMap};
use crate::vma::{VmaData, VmaNode};

/// What an [`AddrSpace`] can guard: a [`VmMap`], or a layer on top of one.
pub trait Guarded {
    /// The owner's data in each area.
    type Data: VmaData;
    /// The handle of the node allocator.
    type Alloc: NodeAlloc<VmaNode<Self::Data>> + Clone;

    /// The map at the bottom.
    fn vm_map(&self) -> &VmMap<Self::Data, Self::Alloc>;
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> Guarded for VmMap<V, A> {
    type Data = V;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<V, A> {
        self
    }
}

/// Nodes that any one operation on a range may need.
const WORST_CASE: usize = 3;

/// A map `M` behind a lock `L`.
///
/// Every operation takes its nodes in hand, then the lock; changes; releases the lock; and then does
/// what it owes: the rest of the TLB flush, dropping what was removed, giving nodes back. Nothing is
/// allocated or freed under the lock.
pub struct AddrSpace<M: Guarded, L: RawLock = Ticket> {
    /// The same allocator as the map's, reachable without the lock.
    alloc: M::Alloc,
    inner: Locked<M, L>,
}

impl<M: Guarded> AddrSpace<M, Ticket> {
    /// Puts `map` behind a ticket lock.
    pub fn new(map: M) -> Self {
        Self::with_lock(map, Ticket::new())
    }
}

impl<M: Guarded, L: RawLock> AddrSpace<M, L> {
    /// Puts `map` behind `lock`, which must be free and guard nothing else.
    pub fn with_lock(map: M, lock: L) -> Self {
        AddrSpace { alloc: map.vm_map().alloc().clone(), inner: Locked::new(map, lock) }
    }

    /// Runs `look` under the lock. It must not call back into this space.
    pub fn inspect<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.inner.lock())
    }

    /// Runs `change` under the lock with `nodes` nodes in hand, as far as there is memory, then does
    /// what it owes. Several operations on the map are one change to everybody else.
    pub fn update<H: Hooks<M::Data>, R>(
        &self,
        nodes: usize,
        hooks: &mut H,
        change: impl FnOnce(&mut M, &mut Update<'_, M::Data, M::Alloc, H>) -> R,
    ) -> R {
        let mut update = Update::new(self.alloc.clone(), hooks);
        // Whoever needs fewer nodes than there are succeeds; the map counts what it needs.
        let _ = update.reserve(nodes);
        let result = change(&mut self.inner.lock(), &mut update);
        update.finish();
        result
    }

    /// The map, without the lock: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut M {
        self.inner.get_mut()
    }

    /// The map, out of its lock.
    pub fn into_inner(self) -> M {
        self.inner.into_inner()
    }
}

impl<V, A, L> AddrSpace<VmMap<V, A>, L>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    L: RawLock,
{
    /// [`VmMap::map`].
    pub fn map(&self, request: Request<V>, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |map, update| map.map(request, update))
    }

    /// [`VmMap::unmap`].
    pub fn unmap(&self, start: u64, len: u64, hooks: &mut impl Hooks<V>) -> Result<u64, Error> {
        self.update(WORST_CASE, hooks, |map, update| map.unmap(start, len, update))
    }

    /// [`VmMap::protect`].
    pub fn protect(&self, start: u64, len: u64, prot: Prot, hooks: &mut impl Hooks<V>) -> Result<(), Error> {
        self.update(WORST_CASE, hooks, |map, update| map.protect(start, len, prot, update))
    }
}
