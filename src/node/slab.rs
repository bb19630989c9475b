//! Nodes carved out of memory that the caller hands over in chunks.

use super::{Content, Node, NodeAlloc, NodeList, TypeStable};
use crate::sync::SpinLock;
use core::cell::Cell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

/// A slab allocator over donated memory, for kernels that have pages but no heap.
///
/// [`donate`](Self::donate) hands over a chunk; it stays the slab's for `'m`. Nodes that come back
/// go onto a free list; memory never goes back, which makes nodes type-stable. All calls are O(1)
/// but `donate`, which is O(nodes in the chunk), under a spinlock of the slab's own.
///
/// A chunk must last as long as the slab:
///
/// ```compile_fail,E0597
/// # use kvma::{Slab, VmaNode};
/// # use core::mem::MaybeUninit;
/// let slab: Slab<'_, VmaNode> = Slab::new();
/// {
///     let mut chunk = [MaybeUninit::uninit(); 4096];
///     slab.donate(&mut chunk);
/// }
/// slab.available();
/// ```
pub struct Slab<'m, T: Content> {
    state: SpinLock<State<T>>,
    /// Invariant in `'m`: were it shortened, `donate` would take a chunk that does not last.
    memory: PhantomData<Cell<&'m mut [MaybeUninit<u8>]>>,
}

struct State<T: Content> {
    free: NodeList<T>,
    in_use: usize,
}

// SAFETY: the state is a lock, and the free nodes in it hold no data.
unsafe impl<T: Content> Sync for Slab<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Content> Send for Slab<'_, T> {}

impl<'m, T: Content> Slab<'m, T> {
    /// A slab without memory.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        let state = State { free: NodeList::new(), in_use: 0 };
        Slab { state: SpinLock::new(state), memory: PhantomData }
    }

    /// A slab without memory.
    #[cfg(loom)]
    pub fn new() -> Self {
        let state = State { free: NodeList::new(), in_use: 0 };
        Slab { state: SpinLock::new(state), memory: PhantomData }
    }

    /// Hands a chunk over. Returns how many nodes fit: none, if it is too small or too misaligned.
    pub fn donate(&self, chunk: &'m mut [MaybeUninit<u8>]) -> usize {
        let skip = chunk.as_ptr().align_offset(align_of::<Node<T>>());
        let count = chunk.len().saturating_sub(skip) / size_of::<Node<T>>();
        if count == 0 {
            return 0;
        }
        // SAFETY: `skip` lies within the chunk, since at least one node fits behind it.
        let base = unsafe { chunk.as_mut_ptr().add(skip) }.cast::<Node<T>>();
        let mut fresh = NodeList::new();
        for index in 0..count {
            // SAFETY: aligned and inside the chunk, which is ours for 'm; each slot is used once.
            unsafe {
                let slot = base.add(index);
                slot.write(Node::new());
                fresh.push_back(NonNull::new_unchecked(slot));
            }
        }
        self.state.with(|state| {
            while let Some(node) = fresh.pop_front() {
                // SAFETY: it has just left the other list.
                unsafe { state.free.push_back(node) }
            }
        });
        count
    }

    /// Nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.state.with(|state| state.in_use)
    }

    /// Nodes that can be handed out before more memory is needed.
    pub fn available(&self) -> usize {
        self.state.with(|state| state.free.len())
    }
}

impl<T: Content> Default for Slab<'_, T> {
    fn default() -> Self {
        Slab::new()
    }
}

// SAFETY: a node is either out or in `free`, so it has one holder; it was initialised by `donate`,
// and its memory is the slab's for 'm, which outlives every borrow of the slab.
unsafe impl<T: Content> NodeAlloc<T> for Slab<'_, T> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        self.state.with(|state| {
            let node = state.free.pop_front()?;
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

// SAFETY: donated memory holds nodes and nothing else for 'm.
unsafe impl<T: Content> TypeStable<T> for Slab<'_, T> {}
