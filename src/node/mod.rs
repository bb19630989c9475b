//! Nodes: one for each entry of a tree, in memory that the kernel provides.
//!
//! A node's first cache line holds what a lookup reads: links, range, flags, and the numbers that
//! say whether they belong together. Parents, colours and gaps are in the second line, with the
//! rest: a change writes them all the way up to the root, and would take the first line away from
//! readers on other processors. Of the second line a reader needs what only some VMAs have: object,
//! offset and key. Every field that a reader without the lock touches is atomic.
//!
//! - [`NodeAlloc`] is the trait that the kernel implements, or takes ready: [`FixedPool`] (a
//!   static, before any heap), [`Slab`] (memory handed over in chunks), `BoxAlloc` and `Heap`
//!   (feature `alloc`).
//! - [`Preallocated`] holds nodes that were taken before anything changes, so that nothing fails
//!   half-way.

#![allow(unsafe_code)]

mod alloc;
#[cfg(feature = "compat")]
mod annotated;
pub(crate) mod data;
mod fixed_pool;
mod free_nodes;
#[cfg(any(feature = "alloc", loom))]
mod heap;
mod key;
mod list;
pub(crate) mod pinned_data;
mod preallocated;
mod removed;
mod slab;

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;

pub use self::alloc::{NodeAlloc, ReadSide};
#[cfg(feature = "compat")]
pub(crate) use self::annotated::{Annotated, Annotation};
pub use self::fixed_pool::FixedPool;
#[cfg(any(feature = "alloc", loom))]
pub use self::heap::{BoxAlloc, Heap};
pub(crate) use self::key::{KeySlot, KeyWord};
pub use self::list::NodeList;
pub(crate) use self::preallocated::FreeNode;
pub use self::preallocated::Preallocated;
pub(crate) use self::removed::{DetachedNode, NodeStore, Removed};
pub use self::slab::{NoRefill, Refill, Slab};
use crate::position::{Field, Number, Position};
use crate::sync::{Link, Ordering, Word, fence};

/// The contents of a tree's entries: [`VmaNode`](crate::VmaNode) or
/// [`RangeNode`](crate::range_map::RangeNode).
pub trait Content {
    /// The numbers that positions in the tree are.
    type Position: Position;
    /// A value for the whole tree that splitting and merging need, such as the page size.
    type Context: Copy;
    /// A plain copy of an entry's attributes.
    type Attrs: Copy + PartialEq;
    /// The atomics that hold what does not fit into the 32 hot bits.
    type Words: Default + Sync + Send;
    /// The user data, read under the lock only.
    type Data;
    /// The node's place for the key of its data, the number that readers without the lock see: a
    /// word, or `()` if the data has none.
    type Key: KeySlot<Self::Data>;
    /// `true` if there are entries without data: claims.
    const HAS_CLAIMS: bool = false;

    /// `true` if some entries keep pages free before them: see [`guard_gap`](Self::guard_gap).
    const HAS_GUARD_GAPS: bool = false;

    /// Returns the number of pages right before an entry that searches for a gap leave free.
    /// Nothing but what the arguments say may count.
    #[inline(always)]
    fn guard_gap(context: Self::Context, words: &Self::Words, hot: u32) -> Self::Position {
        let _ = (context, words, hot);
        Number::ZERO
    }

    /// Reads the attributes. Called by the lock's holder.
    fn load(words: &Self::Words, hot: u32) -> Self::Attrs;

    /// Stores attributes, and returns the hot bits: the node has bits 6 and 15 for itself.
    fn store(words: &Self::Words, attrs: &Self::Attrs) -> u32;
}

/// The hot bit of an entry that holds no data: a claim.
pub(crate) const NO_DATA: u32 = 1 << 6;
/// The hot bit of an entry whose key is not 0. Without it, the node's key means nothing.
const HAS_KEY: u32 = 1 << 15;
/// The number of no tree: of nodes that were handed out and are in none yet.
const HANDED_OUT: u64 = u64::MAX;
/// The hot bits that are the node's own: contents cannot use them.
pub(crate) const NODE_BITS: u32 = NO_DATA | HAS_KEY;

/// A node of a tree. Opaque: allocators hand it out as [`Node::new`] made it, or as it was when
/// they got it back.
///
/// See [`NodeList`] for an allocator that makes them.
#[repr(C, align(64))]
pub struct Node<T: Content> {
    pub(crate) left: Link<Self>,
    pub(crate) right: Link<Self>,
    /// The first page.
    pub(crate) start: Field<T::Position>,
    /// The page behind the last.
    pub(crate) end: Field<T::Position>,
    /// The entry's hot bits (low half), and the flushes that were pending when it last changed
    /// (high half, see `pending_flush`).
    pub(crate) state: Word,
    /// The number of the tree that the node is in: nodes move between address spaces that share an
    /// allocator.
    pub(crate) tree: Word,
    /// The generation: odd while the node changes or is in no tree. It never goes back, not even on
    /// reuse, so that an even one says "unchanged since" for ever.
    pub(crate) generation: Word,
    /// Further contents. Their first word is still in the first line.
    pub(crate) words: T::Words,
    /// The key of the data, if it is not 0. Changed in write sections only, and in no other way
    /// than to that of the data in the node.
    key: T::Key,

    /// The parent, with the colour in bit 0. It also links free nodes. Without the lock only walks
    /// read it, which believe nothing that they find, if the root has moved in a change under way.
    pub(crate) parent: Link<Self>,
    /// The number of free pages right before `start`, less the entry's guard gap: see
    /// `tree::guard_gap`.
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
    /// Creates a node that is in no tree.
    pub fn new() -> Self {
        Self {
            parent: Link::null(),
            left: Link::null(),
            right: Link::null(),
            start: Field::new(Number::ZERO),
            end: Field::new(Number::ZERO),
            gap: Field::new(Number::ZERO),
            max_gap: Field::new(Number::ZERO),
            state: Word::new(0),
            tree: Word::new(0),
            generation: Word::new(1),
            words: T::Words::default(),
            key: T::Key::default(),
            data: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Begins a write section. Everything stored until [`write_end`](Self::write_end) is seen whole
    /// or not at all by readers who check the generation. Of the kernel's code, only what changes
    /// the data runs within, and a panic there must end the section: see `tree::cursor`.
    #[inline]
    pub(crate) fn write_begin(&self) {
        self.write_begin_above(0);
    }

    /// Begins a write section with a generation above `floor`.
    #[inline]
    pub(crate) fn write_begin_above(&self, floor: u64) {
        self.generation.set(self.generation.get().max(floor) | 1);
        // Orders the odd generation before every store of the change. Pairs with the acquire fence
        // of `tree::lookup`: a reader who saw one of these stores finds the generation changed.
        fence(Ordering::Release);
    }

    /// Ends a write section, with the hot bits that hold from now on and the pending flushes.
    #[inline]
    pub(crate) fn write_end(&self, hot: u32, pending_flushes: u32) {
        self.state.set((pending_flushes as u64) << 32 | hot as u64);
        // Release: a reader who saw this generation first sees every store of the change.
        self.generation.set_release(self.generation.get() + 1);
    }

    /// Notes in debug builds that the allocator has handed the node out, which it must not have
    /// done before.
    #[inline]
    fn note_handed_out(&self) {
        if cfg!(debug_assertions) {
            // 0 with the allocator, by `new` and `note_given_back`; else a tree's number, or this.
            let is_free = self.generation.get() & 1 != 0 && self.tree.get() == 0;
            assert!(is_free, "the allocator handed out a node in use");
            self.tree.set(HANDED_OUT);
        }
    }

    /// Notes in debug builds that the allocator gets the node back.
    #[inline]
    fn note_given_back(&self) {
        if cfg!(debug_assertions) {
            self.tree.set(0);
        }
    }

    /// Returns the generation, to the lock's holder.
    #[inline(always)]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Returns the hot bits, to the lock's holder.
    #[inline(always)]
    pub(crate) fn hot(&self) -> u32 {
        self.state.get() as u32
    }

    /// Returns `true` if a node that is in a tree or was removed from one holds data.
    #[inline(always)]
    pub(crate) fn has_data(&self) -> bool {
        Self::hot_has_data(self.hot())
    }

    /// Returns `true` if a node with these hot bits holds data.
    #[inline(always)]
    pub(crate) fn hot_has_data(hot: u32) -> bool {
        !T::HAS_CLAIMS || hot & NO_DATA == 0
    }

    /// Returns `true` if the data has a key, to the lock's holder.
    #[cfg(feature = "guest")]
    #[inline(always)]
    pub(crate) fn has_key(&self) -> bool {
        self.hot() & HAS_KEY != 0
    }

    /// Returns the key of data. May run the kernel's code: called before a write section, or, if
    /// the data changes, as the last of that code.
    #[inline(always)]
    pub(crate) fn key_of(data: &T::Data) -> u64 {
        T::Key::of(data)
    }

    /// Stores the attributes of an entry with data, and the data's key. Returns the hot bits for
    /// the end of the write section.
    #[inline(always)]
    pub(crate) fn store(&self, attrs: &T::Attrs, key: u64) -> u32 {
        let hot = T::store(&self.words, attrs) & !NODE_BITS;
        if key == 0 {
            return hot;
        }
        self.key.store(key);
        hot | HAS_KEY
    }

    /// Stores the attributes of a claim, which has no data. Returns the hot bits for the end of the
    /// write section.
    pub(crate) fn store_claim(&self, attrs: &T::Attrs) -> u32 {
        T::store(&self.words, attrs) & !NODE_BITS | NO_DATA
    }

    /// Returns the key to a reader without the lock, who has found these hot bits.
    #[inline(always)]
    pub(crate) fn shared_key(&self, hot: u32) -> u64 {
        // The word is not read if it means nothing: changes nearby take its cache line away, but
        // hardly ever that of the hot bits.
        if hot & HAS_KEY == 0 { 0 } else { self.key.shared() }
    }

    /// Returns the flushes that were pending when the node last changed, to the lock's holder.
    pub(crate) fn pending_flushes(&self) -> u32 {
        (self.state.get() >> 32) as u32
    }

    /// Stores the hot bits of a node that is in no tree and stays odd.
    fn set_hot_while_detached(&self, hot: u32) {
        self.state.set(hot as u64);
    }

    /// Returns the attributes, to the lock's holder.
    #[inline(always)]
    pub(crate) fn attrs(&self) -> T::Attrs {
        T::load(&self.words, self.hot())
    }

    /// Returns the user data.
    ///
    /// # Safety
    ///
    /// The data is initialised, and nobody has it borrowed mutably.
    #[inline(always)]
    pub(crate) unsafe fn data(&self) -> &T::Data {
        // SAFETY: initialised and not borrowed mutably, by the contract of this method.
        unsafe { (*self.data.get()).assume_init_ref() }
    }

    /// Returns the user data to whoever changes it.
    ///
    /// # Safety
    ///
    /// The data is initialised, and nobody else has it borrowed.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn data_mut(&self) -> &mut T::Data {
        // SAFETY: initialised and borrowed by nobody, by the contract of this method.
        unsafe { (*self.data.get()).assume_init_mut() }
    }

    /// Moves the data out. What is left is uninitialised.
    ///
    /// # Safety
    ///
    /// The contract of [`data_mut`](Self::data_mut), and nobody reads the data before the next
    /// `put_data`.
    #[inline(always)]
    pub(crate) unsafe fn take_data(&self) -> T::Data {
        // SAFETY: initialised and borrowed by nobody, and the copy that stays is not used again, by
        // the contract of this method.
        unsafe { (*self.data.get()).assume_init_read() }
    }

    /// Moves data in, over uninitialised memory.
    ///
    /// # Safety
    ///
    /// Nobody has the data borrowed; data that was there is not dropped.
    #[inline(always)]
    pub(crate) unsafe fn put_data(&self, data: T::Data) {
        // SAFETY: borrowed by nobody, by the contract of this method.
        unsafe { (*self.data.get()).write(data) };
    }

    pub(crate) fn next_in_list(&self) -> *mut Self {
        self.parent.get()
    }

    pub(crate) fn set_next_in_list(&self, next: *mut Self) {
        self.parent.set(next);
    }
}

impl<T: Content> Default for Node<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Content> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}
