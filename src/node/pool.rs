//! A fixed number of nodes in a static, for use before there is any heap.

use super::{Content, Node, NodeAlloc, NodeList, TypeStable};
use crate::sync::SpinLock;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

/// `N` nodes, in place. Declare it as a `static` and hand out `&'static FixedPool`.
///
/// ```
/// use kvma::{FixedPool, PageSize, VmaNode, VmMap};
///
/// static POOL: FixedPool<VmaNode, 64> = FixedPool::new();
/// let map = VmMap::<(), _>::new(0x1000, 0xffff, PageSize::SIZE_4K, &POOL).unwrap();
/// assert_eq!(POOL.in_use(), 1); // the map's sentinel
/// # drop(map);
/// # assert_eq!(POOL.in_use(), 0);
/// ```
///
/// Allocation and release are O(1) under a spinlock of the pool's own.
pub struct FixedPool<T: Content, const N: usize> {
    nodes: UnsafeCell<[MaybeUninit<Node<T>>; N]>,
    state: SpinLock<State<T>>,
}

struct State<T: Content> {
    /// Where the nodes were when the list below was made: a pool that is not borrowed may be moved.
    base: *mut Node<T>,
    /// Nodes from here on were never handed out and are not initialised.
    fresh: usize,
    free: NodeList<T>,
    in_use: usize,
}

impl<T: Content> State<T> {
    const fn all_free(base: *mut Node<T>) -> Self {
        State { base, fresh: 0, free: NodeList::new(), in_use: 0 }
    }
}

// SAFETY: `nodes` is reached only by way of `state`, which is a lock, and nodes are `Sync`. The
// pool holds no data of type `T::Data`: nodes come back empty.
unsafe impl<T: Content, const N: usize> Sync for FixedPool<T, N> {}
// SAFETY: as above; while nodes are out, the pool is borrowed and cannot move, and `alloc` notices
// if it did afterwards.
unsafe impl<T: Content, const N: usize> Send for FixedPool<T, N> {}

impl<T: Content, const N: usize> FixedPool<T, N> {
    /// A pool with all its nodes free.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        FixedPool {
            nodes: UnsafeCell::new([const { MaybeUninit::uninit() }; N]),
            state: SpinLock::new(State::all_free(ptr::null_mut())),
        }
    }

    /// A pool with all its nodes free.
    #[cfg(loom)]
    pub fn new() -> Self {
        FixedPool {
            nodes: UnsafeCell::new([const { MaybeUninit::uninit() }; N]),
            state: SpinLock::new(State::all_free(ptr::null_mut())),
        }
    }

    /// Nodes that the pool has.
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.state.with(|state| state.in_use)
    }
}

impl<T: Content, const N: usize> Default for FixedPool<T, N> {
    fn default() -> Self {
        FixedPool::new()
    }
}

// SAFETY: every index below `fresh` is either out or in `free`, so a node has one holder; it is
// initialised once, when it first goes out, and never again.
unsafe impl<T: Content, const N: usize> NodeAlloc<T> for FixedPool<T, N> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        let base = self.nodes.get().cast::<Node<T>>();
        self.state.with(|state| {
            if state.base != base {
                // First use, or the pool has moved: then nothing borrowed it, so no node is out
                // (those of a map that was forgotten are nobody's), and the list points to where
                // the nodes were.
                *state = State::all_free(base);
            }
            let node = match state.free.pop_front() {
                Some(node) => node,
                None if state.fresh < N => {
                    // SAFETY: in bounds, and under the lock nobody else has this slot.
                    let node = unsafe {
                        let slot = base.add(state.fresh);
                        slot.write(Node::new());
                        NonNull::new_unchecked(slot)
                    };
                    state.fresh += 1;
                    node
                }
                None => return None,
            };
            state.in_use += 1;
            Some(node)
        })
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        self.state.with(|state| {
            // SAFETY: the caller gives up a node of ours that is in no tree.
            unsafe { state.free.push_front(node) };
            state.in_use -= 1;
        })
    }
}

// SAFETY: slots are nodes from their first use on, and are never anything else.
unsafe impl<T: Content, const N: usize> TypeStable<T> for FixedPool<T, N> {}
