//! Nodes: one per entry, in memory that the caller provides.
//!
//! A node's first cache line is what a lookup reads: links, range, flags, and what tells whether
//! they belong together. Parents, colours and gaps are in the second line, with the rest: a change
//! writes them all the way up to the root, and would take the first line away from readers on other
//! processors. Of the second line a reader needs what only some entries have: object, offset and
//! the owner's key. Every field that a reader without the lock touches is atomic, and node memory
//! is *type-stable*: once a node, always a node.
//!
//! - [`NodeAlloc`]: the trait that the caller implements, or takes ready: [`FixedPool`] (a static,
//!   before any heap), [`Slab`] (memory handed over in chunks), `BoxAlloc` (feature `alloc`).
//! - [`Preallocated`]: nodes in hand before anything changes, so that nothing fails half-way.

#![allow(unsafe_code)]

mod alloc;
#[cfg(any(feature = "alloc", loom))]
mod boxed;
#[cfg(feature = "alloc")]
mod heap;
mod list;
mod pool;
mod preallocated;
mod slab;

pub use alloc::{NodeAlloc, ReadSide, TypeStable};
#[cfg(any(feature = "alloc", loom))]
pub use boxed::BoxAlloc;
#[cfg(feature = "alloc")]
pub use heap::Heap;
pub use pool::FixedPool;
pub use preallocated::Preallocated;
pub(crate) use preallocated::{DetachedNode, FreeNode, Removed};
pub use slab::Slab;

pub use list::NodeList;

use crate::position::{Field, Number, Position};
use crate::sync::{Link, Ordering, Word, fence};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

/// What the entries of one kind of tree carry.
pub trait Content {
    /// What places in the tree are retry_with_nodes in.
    type Position: Position;
    /// A plain copy of an entry's attributes.
    type Attrs: Copy + PartialEq;
    /// The atomics that hold what does not fit into the 32 hot bits.
    type Words: Default + Sync + Send;
    /// The owner's data, read under the lock only.
    type Data;

    /// Reads the attributes by the lock's holder.
    fn load(words: &Self::Words, hot: u32) -> Self::Attrs;

    /// Stores the attributes and gives the 32 hot bits.
    fn store(words: &Self::Words, attrs: &Self::Attrs, data: &Self::Data) -> u32;
}

/// A node of a tree of entries. Opaque: allocators hand it out as [`Node::new`] made it, or as it
/// was when they got it back.
#[repr(C, align(64))]
pub struct Node<T: Content> {
    pub(crate) left: Link<Node<T>>,
    pub(crate) right: Link<Node<T>>,
    /// First page.
    pub(crate) start: Field<T::Position>,
    /// One past the last page.
    pub(crate) end: Field<T::Position>,
    /// The entry's hot flags (low half), and which flushes were under way when it last changed
    /// (high half, see `pending_flush`).
    pub(crate) state: Word,
    /// The tree that the node is in: nodes move between address spaces that share an allocator.
    pub(crate) owner: Word,
    /// The node's generation: odd while it changes or is in no tree. Never goes back, not even on
    /// reuse, so that an even one says "unchanged since" for ever.
    pub(crate) seq: Word,
    /// What the content needs more. Its first word is still in the first line.
    pub(crate) words: T::Words,

    /// Parent, with the colour in bit 0. Never read without the lock, so it also links free nodes.
    pub(crate) parent: Link<Node<T>>,
    /// Free pages right before `start`.
    pub(crate) gap: Field<T::Position>,
    /// The largest `gap` in the subtree.
    pub(crate) max_gap: Field<T::Position>,
    data: UnsafeCell<MaybeUninit<T::Data>>,
}

// SAFETY: links and words are atomics; `data` is touched only by the holder of the tree (`&mut`),
// or read through `&` borrowed from the tree, which needs `T::Data: Sync` of whoever shares the
// tree.
unsafe impl<T: Content> Sync for Node<T> {}
// SAFETY: a node is memory; its data moves between threads only inside trees that require `Send`.
unsafe impl<T: Content> Send for Node<T> {}

impl<T: Content> Node<T> {
    /// A node in no tree.
    pub fn new() -> Node<T> {
        Node {
            parent: Link::null(),
            left: Link::null(),
            right: Link::null(),
            start: Field::new(Number::ZERO),
            end: Field::new(Number::ZERO),
            gap: Field::new(Number::ZERO),
            max_gap: Field::new(Number::ZERO),
            state: Word::new(0),
            owner: Word::new(0),
            seq: Word::new(1),
            words: T::Words::default(),
            data: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Marks the node as changing. Everything stored until [`close`](Self::close) is seen whole or
    /// not at all by readers who check the generation.
    #[inline]
    pub(crate) fn open(&self) {
        self.open_above(0)
    }

    /// As `open`, with a generation above `floor`.
    #[inline]
    pub(crate) fn open_above(&self, floor: u64) {
        self.seq.set(self.seq.get().max(floor) | 1);
        // Orders the odd generation before every store of the change. Pairs with the acquire fence
        // of `tree::walk`: a reader who saw one of these stores finds the generation changed.
        fence(Ordering::Release);
    }

    /// Ends a change, with the hot bits that hold from now on and the flushes under way.
    #[inline]
    pub(crate) fn close(&self, hot: u32, pending_flushes: u32) {
        self.state.update((pending_flushes as u64) << 32 | hot as u64);
        // Release: a reader who saw this generation first sees every store of the change.
        self.seq.set_release(self.seq.get() + 1);
    }

    /// Whether the node is in no tree.
    pub(crate) fn is_dead(&self) -> bool {
        self.seq.get() & 1 != 0
    }

    /// The generation, by the lock's holder.
    #[inline(always)]
    pub(crate) fn seq(&self) -> u64 {
        self.seq.get()
    }

    /// The hot bits, by the lock's holder.
    #[inline(always)]
    pub(crate) fn hot(&self) -> u32 {
        self.state.get() as u32
    }

    /// The flushes that were under way when the node last changed, by the lock's holder.
    pub(crate) fn pending_flushes(&self) -> u32 {
        (self.state.get() >> 32) as u32
    }

    /// Stores the hot bits of a node that is in no tree and stays odd.
    fn set_hot_while_open(&self, hot: u32) {
        self.state.set(hot as u64)
    }

    #[inline(always)]
    pub(crate) fn attrs(&self) -> T::Attrs {
        T::load(&self.words, self.hot())
    }

    /// # Safety
    ///
    /// The data is initialised, and nobody has it borrowed mutably.
    #[inline(always)]
    pub(crate) unsafe fn data(&self) -> &T::Data {
        // SAFETY: the caller's.
        unsafe { (*self.data.get()).assume_init_ref() }
    }

    /// # Safety
    ///
    /// The data is initialised, and nobody else has it borrowed.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn data_mut(&self) -> &mut T::Data {
        // SAFETY: the caller's.
        unsafe { (*self.data.get()).assume_init_mut() }
    }

    /// Moves the data out. What is left is uninitialised.
    ///
    /// # Safety
    ///
    /// As for [`data_mut`](Self::data_mut), and nobody reads the data before the next `put_data`.
    #[inline(always)]
    pub(crate) unsafe fn take_data(&self) -> T::Data {
        // SAFETY: the caller's.
        unsafe { (*self.data.get()).assume_init_read() }
    }

    /// Moves data in, over uninitialised memory.
    ///
    /// # Safety
    ///
    /// Nobody has the data borrowed; data that was there is not dropped.
    #[inline(always)]
    pub(crate) unsafe fn put_data(&self, data: T::Data) {
        // SAFETY: the caller's.
        unsafe { (*self.data.get()).write(data) };
    }

    pub(crate) fn next_in_list(&self) -> *mut Node<T> {
        self.parent.get()
    }

    pub(crate) fn set_next_in_list(&self, next: *mut Node<T>) {
        self.parent.set(next)
    }
}

impl<T: Content> Default for Node<T> {
    fn default() -> Self {
        Node::new()
    }
}
