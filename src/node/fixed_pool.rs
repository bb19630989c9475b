//! A fixed number of nodes in a static, for use before there is any heap.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use heapless::Vec;

use super::{Content, Node, NodeAlloc, ReadSide};
use crate::sync::{Locked, RawLock, Ticket};

/// An allocator of `N` nodes that lie within it. Declare it as a `static` and use
/// `&'static FixedPool`.
///
/// ```
/// use kvma::{FixedPool, PageSize, VmMap, VmaNode};
///
/// static POOL: FixedPool<VmaNode, 64> = FixedPool::new();
/// let map = VmMap::<(), _>::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &POOL)?;
/// assert_eq!(POOL.in_use(), 1); // the map's sentinel
/// # drop(map);
/// # assert_eq!(POOL.in_use(), 0);
/// # Ok::<(), kvma::Error>(())
/// ```
///
/// Allocation and release are O(1), under a lock of the pool's own. The lock leaves interrupts on:
/// a kernel whose interrupt handlers change address spaces gives another one, to
/// [`with_lock`](Self::with_lock).
pub struct FixedPool<T: Content, const N: usize, L: RawLock = Ticket> {
    nodes: UnsafeCell<[MaybeUninit<Node<T>>; N]>,
    state: Locked<State<N>, L>,
}

struct State<const N: usize> {
    /// Nodes from this index on were never handed out and are not initialised.
    fresh: u32,
    /// The indices of free nodes that have been handed out before. Indices and not pointers: a pool
    /// may be moved while no node is out.
    free: Vec<u32, N>,
}

impl<const N: usize> State<N> {
    const fn all_free() -> Self {
        assert!(N <= u32::MAX as usize, "a pool has at most 2^32 - 1 nodes");
        Self { fresh: 0, free: Vec::new() }
    }
}

// SAFETY: `nodes` is reached only by way of `state`, which is a lock, and nodes are `Sync`. The
// pool holds no data of type `T::Data`: nodes come back empty.
unsafe impl<T: Content, const N: usize, L: RawLock + Sync> Sync for FixedPool<T, N, L> {}
// SAFETY: while nodes are out, the pool is borrowed and cannot move; what moves with it otherwise
// is memory and indices.
unsafe impl<T: Content, const N: usize, L: RawLock + Send> Send for FixedPool<T, N, L> {}

impl<T: Content, const N: usize> FixedPool<T, N> {
    /// Creates a pool with all its nodes free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self::with_lock(Ticket::new())
    }

    /// Creates a pool with all its nodes free.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self::with_lock(Ticket::new())
    }
}

impl<T: Content, const N: usize, L: RawLock> FixedPool<T, N, L> {
    /// Creates a pool with all its nodes free, behind a free lock.
    pub const fn with_lock(lock: L) -> Self {
        Self {
            nodes: UnsafeCell::new([const { MaybeUninit::uninit() }; N]),
            state: Locked::new(State::all_free(), lock),
        }
    }

    /// Returns the number of nodes that the pool has.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Returns the number of nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        let state = self.state.lock();
        state.fresh as usize - state.free.len()
    }

    fn base(&self) -> *mut Node<T> {
        self.nodes.get().cast()
    }
}

impl<T: Content, const N: usize> Default for FixedPool<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Content, const N: usize, L: RawLock> fmt::Debug for FixedPool<T, N, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("FixedPool");
        debug.field("capacity", &N).field("in_use", &self.in_use()).finish()
    }
}

// SAFETY: every index below `fresh` is either out or in `free`, so a node has one holder; it is
// initialised once, when it first goes out, and never again, so it is type-stable. Two handles are
// the same if they are the same pool: a pool has a size.
unsafe impl<T: Content, const N: usize, L: RawLock> NodeAlloc<T> for FixedPool<T, N, L> {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        let mut state = self.state.lock();
        if let Some(index) = state.free.pop() {
            // SAFETY: an index below `fresh`, so within the array.
            return NonNull::new(unsafe { self.base().add(index as usize) });
        }
        let index = state.fresh as usize;
        if index >= N {
            return None;
        }
        // SAFETY: in bounds, and under the lock nobody else has this slot.
        let node = unsafe {
            let slot = self.base().add(index);
            slot.write(Node::new());
            slot
        };
        state.fresh += 1;
        NonNull::new(node)
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        let index = (node.addr().get() - self.base().addr()) / size_of::<Node<T>>();
        // There is room for all indices, and each is in at most once.
        let _ = self.state.lock().free.push(index as u32);
    }

    fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

// SAFETY: type-stable, so nothing needs to be kept in place.
unsafe impl<T: Content, const N: usize, L: RawLock> ReadSide<T> for FixedPool<T, N, L> {
    type Guard<'a>
        = ()
    where
        Self: 'a;

    #[inline(always)]
    fn enter(&self) {}
}
