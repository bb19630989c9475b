//! Nodes from memory that the kernel hands over in chunks.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use super::free_nodes::FreeNodes;
use super::{Content, Node, NodeAlloc, NodeList, ReadSide};
use crate::sync::{Locked, RawLock, Ticket};

/// A slab allocator over donated memory, for kernels that have pages but no heap.
///
/// [`donate`](Self::donate) hands over a chunk; a slab made by [`with_refill`](Self::with_refill)
/// asks for one itself when it has run out. A chunk stays the slab's for `'m`. Nodes that come back
/// go onto a free list; memory never goes back, which makes nodes type-stable. All calls are O(1)
/// but taking in a chunk, which is O(nodes in it), under a lock of the slab's own.
///
/// ```
/// use core::mem::MaybeUninit;
/// use kvma::{PageSize, Slab, VmMap, VmaNode};
///
/// # fn page_of_memory() -> Option<&'static mut [MaybeUninit<u8>]> {
/// #     Some(Box::leak(Box::new([MaybeUninit::uninit(); 4096])))
/// # }
/// let slab: Slab<'static, VmaNode, _> = Slab::with_refill(page_of_memory);
/// let map = VmMap::<(), _>::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, &slab)?;
/// assert_eq!(slab.in_use(), 1);
/// # drop(map);
/// # Ok::<(), kvma::Error>(())
/// ```
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
pub struct Slab<'m, T: Content, R = NoRefill, L: RawLock = Ticket> {
    free: Locked<FreeNodes<T>, L>,
    refill: R,
    /// Invariant in `'m`: were it shortened, `donate` would take a chunk that does not last.
    memory: PhantomData<Cell<&'m mut [MaybeUninit<u8>]>>,
}

/// A source of memory for a [`Slab`] that has run out of nodes. Any function that returns a chunk
/// is one.
///
/// ```
/// use core::mem::MaybeUninit;
///
/// use kvma::node::Refill;
/// use kvma::{Error, PageSize, Slab, VmMap, VmaNode};
///
/// /// Frames of a machine of which all memory is mapped where the kernel can reach it.
/// struct Frames;
///
/// impl Refill<'static> for Frames {
///     fn chunk(&self) -> Option<&'static mut [MaybeUninit<u8>]> {
/// #       fn allocate_frame() -> Option<*mut MaybeUninit<u8>> {
/// #           Some(Box::leak(Box::new([MaybeUninit::uninit(); 4096])).as_mut_ptr())
/// #       }
///         let frame = allocate_frame()?;
///         // SAFETY: 4096 bytes that are nobody else's from now on.
///         Some(unsafe { core::slice::from_raw_parts_mut(frame, 4096) })
///     }
/// }
///
/// let slab = Slab::<VmaNode, _>::with_refill(Frames);
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &slab)?;
/// assert!(slab.in_use() == 1 && slab.available() > 10);
/// # drop(map);
/// # Ok::<(), Error>(())
/// ```
pub trait Refill<'m> {
    /// Returns a chunk of memory, or `None` if there is none. Called without the slab's lock, but
    /// possibly under that of the space which needs a node.
    fn chunk(&self) -> Option<&'m mut [MaybeUninit<u8>]>;
}

/// No more memory than what was [donated](Slab::donate).
///
/// ```
/// use core::mem::MaybeUninit;
///
/// use kvma::{Slab, VmaNode};
///
/// // Nothing but what is donated: one chunk, at boot.
/// let mut chunk = [MaybeUninit::uninit(); 8192];
/// let slab = Slab::<VmaNode>::new();
/// assert!(slab.donate(&mut chunk) > 20);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRefill;

impl<'m> Refill<'m> for NoRefill {
    fn chunk(&self) -> Option<&'m mut [MaybeUninit<u8>]> {
        None
    }
}

impl<'m, F: Fn() -> Option<&'m mut [MaybeUninit<u8>]>> Refill<'m> for F {
    fn chunk(&self) -> Option<&'m mut [MaybeUninit<u8>]> {
        self()
    }
}

// SAFETY: the free nodes are behind a lock, and hold no data; the refill is shared as the slab is.
unsafe impl<T: Content, R: Sync, L: RawLock + Sync> Sync for Slab<'_, T, R, L> {}
// SAFETY: the free nodes belong to the slab alone, and hold no data.
unsafe impl<T: Content, R: Send, L: RawLock + Send> Send for Slab<'_, T, R, L> {}

impl<T: Content> Slab<'_, T> {
    /// Creates a slab without memory.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self::with_lock(NoRefill, Ticket::new())
    }

    /// Creates a slab without memory.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self::with_lock(NoRefill, Ticket::new())
    }
}

impl<'m, T: Content, R: Refill<'m>> Slab<'m, T, R> {
    /// Creates a slab without memory that calls `refill` for a chunk when it needs one.
    #[cfg(not(loom))]
    pub const fn with_refill(refill: R) -> Self {
        Self::with_lock(refill, Ticket::new())
    }

    /// Creates a slab without memory that calls `refill` for a chunk when it needs one.
    #[cfg(loom)]
    pub fn with_refill(refill: R) -> Self {
        Self::with_lock(refill, Ticket::new())
    }
}

impl<'m, T: Content, R: Refill<'m>, L: RawLock> Slab<'m, T, R, L> {
    /// Creates a slab without memory behind a free lock, such as one that keeps interrupts off.
    pub const fn with_lock(refill: R, lock: L) -> Self {
        Self { free: Locked::new(FreeNodes::new(()), lock), refill, memory: PhantomData }
    }

    /// Hands a chunk over. Returns how many nodes fit: none, if it is too small or too misaligned.
    pub fn donate(&self, chunk: &'m mut [MaybeUninit<u8>]) -> usize {
        let skip = chunk.as_ptr().align_offset(align_of::<Node<T>>());
        let count = chunk.len().saturating_sub(skip) / size_of::<Node<T>>();
        if count == 0 {
            return 0;
        }
        // SAFETY: `skip` lies within the chunk, since at least one node fits behind it; all of them
        // do, and the chunk is ours for 'm.
        unsafe {
            let base = NonNull::from(chunk).cast::<u8>().add(skip);
            self.free.take_in(base.cast(), count, |()| ());
        }
        count
    }

    /// Returns the number of nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.free.lock().in_use()
    }

    /// Returns the number of nodes that can be handed out before more memory is needed.
    pub fn available(&self) -> usize {
        self.free.lock().len()
    }
}

impl<T: Content> Default for Slab<'_, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'m, T: Content, R: Refill<'m>, L: RawLock> fmt::Debug for Slab<'m, T, R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_use, available) = (self.in_use(), self.available());
        f.debug_struct("Slab").field("in_use", &in_use).field("available", &available).finish()
    }
}

// SAFETY: a node is either out or in `free`, so it has one holder; it was initialised by `donate`,
// and its memory is the slab's for 'm, which outlives every borrow of the slab, and is never used
// for anything else. Two handles are the same if they are the same slab: it has a size.
unsafe impl<'m, T: Content, R: Refill<'m>, L: RawLock> NodeAlloc<T> for Slab<'m, T, R, L> {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        loop {
            let free = self.free.lock().pop();
            if free.is_some() {
                return free;
            }
            // A chunk too small for a node ends the loop as if there had been none.
            if self.donate(self.refill.chunk()?) == 0 {
                return None;
            }
        }
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller gives up a node of ours that is in no tree.
        unsafe { self.free.take_back(node) };
    }

    fn alloc_many(&self, count: usize, take: impl FnMut(NonNull<Node<T>>)) {
        self.free.hand_out(count, || self.alloc(), take);
    }

    unsafe fn dealloc_list(&self, nodes: &mut NodeList<T>) {
        // SAFETY: they are nodes of ours that are in no tree, by the contract of this method.
        unsafe { self.free.take_back_all(nodes) };
    }

    fn is_same(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

// SAFETY: type-stable, so nothing needs to be kept in place.
unsafe impl<'m, T: Content, R: Refill<'m>, L: RawLock> ReadSide<T> for Slab<'m, T, R, L> {
    type Guard<'a>
        = ()
    where
        Self: 'a;

    #[inline(always)]
    fn enter(&self) {}
}
