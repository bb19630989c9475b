//! Nodes from the global allocator.

extern crate alloc;

use alloc::alloc::{Layout, alloc as global_alloc, dealloc as global_dealloc};
use alloc::boxed::Box;
use core::fmt;
use core::mem::needs_drop;
use core::ptr::{self, NonNull};

use super::free_nodes::FreeNodes;
use super::{Content, Node, NodeAlloc, NodeList, ReadSide};
use crate::sync::{Locked, RawLock, Ticket};

/// An allocator that takes each node from the heap and gives it straight back. What a
/// [`RangeMap`](crate::RangeMap) uses unless told otherwise.
///
/// It is not type-stable, so it serves no space that is looked up without the lock:
/// [`BoxAlloc`] does. Running out of memory is an answer, not an abort.
///
/// ```
/// use kvma::{Heap, PageSize, VmMap};
///
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Heap)?;
/// assert!(map.is_empty());
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

// SAFETY: a block of the heap is the receiver's alone, valid until it is given back, and
// initialised here. All handles are the one global allocator.
unsafe impl<T: Content> NodeAlloc<T> for Heap {
    const TYPE_STABLE: bool = false;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        // SAFETY: a node is not zero-sized.
        let memory = unsafe { global_alloc(Layout::new::<Node<T>>()) }.cast::<Node<T>>();
        let node = NonNull::new(memory)?;
        // SAFETY: fresh memory of the right layout.
        unsafe { node.write(Node::new()) };
        Some(node)
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: it came from the global allocator with the layout of a box of its type.
        drop(unsafe { Box::from_raw(node.as_ptr()) });
    }

    fn is_same(&self, _other: &Self) -> bool {
        true
    }
}

/// An allocator that takes nodes from the heap by the block, and keeps freed ones for the next
/// call. Share it as `Arc<BoxAlloc<_>>` or `&BoxAlloc<_>`.
///
/// A block is 4 KiB, 31 nodes of VMAs. Side by side they lie in fewer pages than by themselves, and
/// changes of large maps are faster for it. The memory goes back to the heap when the allocator is
/// dropped, and not before, so that what is kept is as much as was ever in use at once: that makes
/// its nodes type-stable, fit for lookups without the lock. Running out of memory is an answer, not
/// an abort.
///
/// ```
/// use std::sync::Arc;
/// use kvma::{AddrSpace, BoxAlloc, PageSize, VmMap};
///
/// let nodes = Arc::new(BoxAlloc::new());
/// let map = VmMap::<(), _>::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, Arc::clone(&nodes))?;
/// let space = AddrSpace::new(map);
/// assert!(space.lookup(0x1000).is_none());
/// assert_eq!(nodes.in_use(), 1);
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct BoxAlloc<T: Content, L: RawLock = Ticket> {
    free: Locked<FreeNodes<T, Blocks>, L>,
}

/// The bytes of a block, unless a single node takes more, as under loom: some models are about
/// nodes that are new.
const BLOCK: usize = if cfg!(loom) { 0 } else { 4096 };

/// The block that was taken last, or null. A block's last word is the block taken before it.
struct Blocks(*mut u8);

impl Blocks {
    /// Adds a block.
    ///
    /// # Safety
    ///
    /// `block` is of this layout, whose size and alignment are multiples of a pointer's, and nobody
    /// uses its last word.
    unsafe fn push(&mut self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: within the block and aligned, by the contract of this method.
        unsafe { Self::last_word(block, layout).write(self.0) };
        self.0 = block.as_ptr();
    }

    /// Takes a block out.
    ///
    /// # Safety
    ///
    /// All blocks were pushed with this layout.
    unsafe fn pop(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let block = NonNull::new(self.0)?;
        // SAFETY: written by `push`, with the same layout.
        self.0 = unsafe { Self::last_word(block, layout).read() };
        Some(block)
    }

    /// # Safety
    ///
    /// `block` is of this layout, whose size is that of a pointer or more.
    unsafe fn last_word(block: NonNull<u8>, layout: Layout) -> NonNull<*mut u8> {
        // SAFETY: within the block, by the contract of this function.
        unsafe { block.add(layout.size() - size_of::<*mut u8>()) }.cast()
    }
}

// SAFETY: free nodes and blocks are behind a lock, and hold no data.
unsafe impl<T: Content, L: RawLock + Sync> Sync for BoxAlloc<T, L> {}
// SAFETY: free nodes and blocks belong to the allocator alone, and hold no data.
unsafe impl<T: Content, L: RawLock + Send> Send for BoxAlloc<T, L> {}

impl<T: Content> BoxAlloc<T> {
    /// Creates an allocator that has taken nothing from the heap yet.
    pub fn new() -> Self {
        Self::with_lock(Ticket::new())
    }
}

impl<T: Content, L: RawLock> BoxAlloc<T, L> {
    /// Creates an allocator behind a free lock, such as one that keeps interrupts off.
    pub const fn with_lock(lock: L) -> Self {
        Self { free: Locked::new(FreeNodes::new(Blocks(ptr::null_mut())), lock) }
    }

    /// The number of nodes in a block: at least one.
    const NODES: usize = {
        let fit = BLOCK.saturating_sub(size_of::<*mut u8>()) / size_of::<Node<T>>();
        if fit == 0 { 1 } else { fit }
    };

    /// The layout of a block: nodes, and its last word.
    const LAYOUT: Layout = {
        let needed = Self::NODES * size_of::<Node<T>>() + size_of::<*mut u8>();
        let size = if needed > BLOCK { needed } else { BLOCK };
        match Layout::from_size_align(size, align_of::<Node<T>>()) {
            Ok(layout) => layout,
            Err(_) => panic!("a node takes all memory"),
        }
    };

    /// Takes a block from the heap. Returns `false` if memory has run out.
    #[cold]
    fn grow(&self) -> bool {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { global_alloc(Self::LAYOUT) };
        let Some(block) = NonNull::new(memory) else { return false };
        // SAFETY: fresh memory, aligned for nodes, in which as many as this come before the last
        // word; it stays until the allocator is dropped.
        unsafe {
            self.free.take_in(block.cast(), Self::NODES, |blocks| blocks.push(block, Self::LAYOUT));
        }
        true
    }

    /// Returns the number of nodes handed out and not yet returned.
    pub fn in_use(&self) -> usize {
        self.free.lock().in_use()
    }
}

impl<T: Content> Default for BoxAlloc<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Content, L: RawLock> fmt::Debug for BoxAlloc<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxAlloc").field("in_use", &self.in_use()).finish()
    }
}

// SAFETY: a node is either out or in `free`. It is initialised once, when the heap gives its block,
// and stays a node until the allocator is dropped, so it is type-stable. Two handles are the same
// if they are the same allocator: it has a size.
unsafe impl<T: Content, L: RawLock> NodeAlloc<T> for BoxAlloc<T, L> {
    const TYPE_STABLE: bool = true;

    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        loop {
            // Others may take all nodes of a block that is brought here.
            let free = self.free.lock().pop();
            if free.is_some() || !self.grow() {
                return free;
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
unsafe impl<T: Content, L: RawLock> ReadSide<T> for BoxAlloc<T, L> {
    type Guard<'a>
        = ()
    where
        Self: 'a;

    #[inline(always)]
    fn enter(&self) {}
}

impl<T: Content, L: RawLock> Drop for BoxAlloc<T, L> {
    fn drop(&mut self) {
        let free = self.free.get_mut();
        // What the nodes are made of may have something to drop, as it has under loom.
        if needs_drop::<Node<T>>() {
            while let Some(node) = free.withdraw() {
                // SAFETY: initialised, and nobody's any more.
                unsafe { node.drop_in_place() };
            }
        }
        // SAFETY: all blocks have this layout and come from the global allocator. The last handle
        // is gone, and with it the last reader: nobody may look at a node any more, not even at one
        // that was never given back.
        unsafe {
            while let Some(block) = free.memory().pop(Self::LAYOUT) {
                global_dealloc(block.as_ptr(), Self::LAYOUT);
            }
        }
    }
}
