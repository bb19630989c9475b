//! The memory of lookup hints: a table of nodes, and what chooses a place in it.
//!
//! A slot names a node, or none, for one aligned range of `2^shift` pages. Readers fill slots as
//! they like. Ranges that share a slot are told apart by the low bits of the pointer, which are
//! free since nodes are aligned; a mistake costs a walk, never a right answer.
//!
//! Only readers of the one space that the table was given to fill its slots, so each names a node
//! of that space's allocator.

#[cfg(loom)]
extern crate alloc;

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;

#[cfg(loom)]
use alloc::boxed::Box;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use crate::sync::{AtomicUsize, Link, Ordering};

/// The words before the first slot: one cache line, which readers only read.
pub(super) const HEADER_WORDS: usize = 8;

/// The low bits of a pointer to a node.
const TAG: usize = 63;

/// The shift of a table that is not asked.
const UNUSED: usize = u64::BITS as usize;

/// The words that a kernel gives for hints.
type Memory = &'static mut [MaybeUninit<usize>];

/// A table of lookup hints, for [`AddrSpace::set_hints`](crate::AddrSpace::set_hints): memory in
/// which an address space notes where in its tree lookups find their VMAs.
///
/// With as many words as there are VMAs, a lookup among 100,000 VMAs takes about half its time, and
/// among a million a third. Below some thousand VMAs a table gains nothing; a space that has so few
/// at the time does not ask it. Fewer words help less, more words hardly more.
///
/// ```
/// use core::mem::MaybeUninit;
///
/// use kvma::addr_space::HintTable;
///
/// # fn pages_of_memory(_: usize) -> Option<&'static mut [MaybeUninit<usize>]> {
/// #     Some(Box::leak(Box::new([MaybeUninit::uninit(); 1024])))
/// # }
/// # fn free_pages(_: &'static mut [MaybeUninit<usize>]) {}
/// // A kernel's own pages, and what takes them back.
/// let memory = pages_of_memory(2).expect("there is memory");
/// let hints = HintTable::new(memory, free_pages).expect("there is room for a slot");
/// # assert!(hints.slots() >= 1000);
/// ```
pub struct HintTable(NonNull<Header>);

// SAFETY: the memory is the table's alone until it is given to a space, whose readers share it by
// atomics.
unsafe impl Send for HintTable {}
// SAFETY: a shared table shows a number that never changes.
unsafe impl Sync for HintTable {}

/// The head of a table, in front of its slots.
#[repr(C)]
pub(super) struct Header {
    count: usize,
    /// The ranges of slots have `2^shift` pages. Stored by the lock's holder.
    shift: AtomicUsize,
    /// The number of VMAs that the shift was chosen for, rounded down to a power of two. The lock's
    /// holder's alone.
    tuned_for: AtomicUsize,
    /// The table that the space had before this one. The lock's holder's alone.
    older: Link<Self>,
    words: usize,
    give_back: fn(Memory),
    /// Under loom an atomic is no word, so slots and words lie apart.
    #[cfg(loom)]
    apart: (Box<[Link<()>]>, *mut MaybeUninit<usize>),
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<Header>() <= HEADER_WORDS * size_of::<usize>()
        && align_of::<Header>() <= align_of::<usize>()
        && size_of::<Link<()>>() == size_of::<usize>()
        && align_of::<Link<()>>() == align_of::<usize>()
);

impl HintTable {
    /// Makes a table of `memory`. The first 8 words are the table's own, each of the others is a
    /// slot. O(words).
    ///
    /// `give_back` gets the memory when nobody uses it any more: when the table is dropped, or if
    /// it was given to a space, when that is dropped; for tables that were replaced see
    /// [`AddrSpace::set_hints`](crate::AddrSpace::set_hints). No lock is held then.
    ///
    /// Returns `None` if there is no room for a slot; the memory has been given back then.
    pub fn new(
        memory: &'static mut [MaybeUninit<usize>],
        give_back: fn(&'static mut [MaybeUninit<usize>]),
    ) -> Option<Self> {
        let words = memory.len();
        // Indices are calculated in 64 bits.
        let count = words.saturating_sub(HEADER_WORDS).min(u32::MAX as usize);
        if count == 0 {
            give_back(memory);
            return None;
        }
        Some(Self(Header::put(memory, count, give_back)))
    }

    /// Returns the number of slots.
    pub fn slots(&self) -> usize {
        self.header().count
    }

    fn header(&self) -> &Header {
        // SAFETY: a header as long as the table exists, of which nothing changes but atomics.
        unsafe { self.0.as_ref() }
    }

    /// Gives the table up. Somebody has to call [`Header::free`].
    pub(super) fn into_raw(self) -> NonNull<Header> {
        let header = self.0;
        core::mem::forget(self);
        header
    }
}

impl Drop for HintTable {
    fn drop(&mut self) {
        // SAFETY: a table that no space has, and that nobody uses after this.
        unsafe { Header::free(self.0) };
    }
}

impl fmt::Debug for HintTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HintTable").field("slots", &self.slots()).finish()
    }
}

impl Header {
    /// Puts a header and empty slots into `memory`, which has room for them.
    #[cfg(not(loom))]
    fn put(memory: Memory, count: usize, give_back: fn(Memory)) -> NonNull<Self> {
        let words = memory.len();
        let start = NonNull::from(memory).cast::<Self>();
        // SAFETY: all of it lies in `memory`, which is exclusively ours: a header takes the first
        // words at most, and a slot a word. Both may lie where a word may.
        unsafe {
            start.write(Self {
                count,
                shift: AtomicUsize::new(UNUSED),
                tuned_for: AtomicUsize::new(0),
                older: Link::null(),
                words,
                give_back,
            });
            let slots = start.cast::<Link<()>>().add(HEADER_WORDS);
            for index in 0..count {
                slots.add(index).write(Link::null());
            }
        }
        start
    }

    #[cfg(loom)]
    fn put(memory: Memory, count: usize, give_back: fn(Memory)) -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(Self {
            count,
            shift: AtomicUsize::new(UNUSED),
            tuned_for: AtomicUsize::new(0),
            older: Link::null(),
            words: memory.len(),
            give_back,
            apart: ((0..count).map(|_| Link::null()).collect(), memory.as_mut_ptr()),
        })))
    }

    /// Gives the memory of a table back.
    ///
    /// # Safety
    ///
    /// The table is one that `put` has made, and nobody uses it from now on.
    pub(super) unsafe fn free(table: NonNull<Self>) {
        // SAFETY: a header, by the contract of this function.
        let (words, give_back) = unsafe { (table.as_ref().words, table.as_ref().give_back) };
        #[cfg(not(loom))]
        let start = table.as_ptr().cast::<MaybeUninit<usize>>();
        #[cfg(loom)]
        // SAFETY: `put` has made it of a box.
        let start = unsafe { Box::from_raw(table.as_ptr()) }.apart.1;
        // SAFETY: the memory that `put` has got, exclusively and for ever. Nothing in it needs to
        // be dropped, and nobody else uses it, by the contract of this function.
        give_back(unsafe { core::slice::from_raw_parts_mut(start, words) });
    }

    /// Returns a slot.
    ///
    /// # Safety
    ///
    /// The table is one that `put` has made and `free` has not got, and `index` is below `count`.
    #[inline(always)]
    unsafe fn slot<'t>(table: NonNull<Self>, index: usize) -> &'t Link<()> {
        #[cfg(not(loom))]
        // SAFETY: `put` has made so many of them there. All that is ever done to a slot is atomic.
        return unsafe { table.cast::<Link<()>>().add(HEADER_WORDS + index).as_ref() };
        #[cfg(loom)]
        // SAFETY: a header, by the contract of this function.
        return &unsafe { table.as_ref() }.apart.0[index];
    }
}

/// A table that a space has.
#[derive(Clone, Copy)]
pub(super) struct Hints<'s> {
    table: NonNull<Header>,
    header: &'s Header,
}

impl<'s> Hints<'s> {
    /// Wraps a table. Returns `None` for null.
    ///
    /// # Safety
    ///
    /// If it is a table, it is not freed as long as `'s` lasts.
    #[inline(always)]
    pub(super) unsafe fn new(table: *mut Header) -> Option<Self> {
        let table = NonNull::new(table)?;
        // SAFETY: a header, by the contract of this function, of which nothing changes but atomics.
        Some(Self { table, header: unsafe { table.as_ref() } })
    }

    /// Returns the number of slots.
    pub(super) fn count(self) -> usize {
        self.header.count
    }

    /// Returns the first and the last page of the aligned range in which `page` lies, or `None` if
    /// the table is not asked.
    #[inline(always)]
    pub(super) fn aligned_range(self, page: u64) -> Option<(u64, u64)> {
        let shift = self.header.shift.load(Ordering::Relaxed);
        let mask = u64::MAX.checked_shl(shift as u32)?;
        Some((page & mask, page | !mask))
    }

    /// Returns the slot of the aligned range in which `page` lies, and what tells that range from
    /// others in the slot. Returns `None` if the table is not asked.
    ///
    /// Ranges that follow each other, up to as many as there are slots, hardly ever share one: the
    /// multiplier is the golden ratio's.
    #[inline(always)]
    fn place(self, page: u64) -> Option<(&'s Link<()>, usize)> {
        let shift = self.header.shift.load(Ordering::Relaxed);
        let hash = page.checked_shr(shift as u32)?.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let index = ((hash >> 32) * self.header.count as u64) >> 32;
        // SAFETY: a table that lives as long as `'s`. The hash is less than 2^32 times 2^32, so
        // the index is below the count.
        let slot = unsafe { Header::slot(self.table, index as usize) };
        Some((slot, (hash >> 26) as usize & TAG))
    }

    /// Returns the node in the slot for `page`, null if there is none.
    #[inline(always)]
    pub(super) fn get<N>(self, page: u64) -> *mut N {
        let Some((slot, tag)) = self.place(page) else { return ptr::null_mut() };
        // Pairs with `set`: the node is seen initialised.
        let found = slot.acquire();
        let node = if found.addr() & TAG == tag { found } else { ptr::null_mut() };
        node.map_addr(|addr| addr & !TAG).cast()
    }

    /// Stores a node in the slot for `page`, unless it is there already. Any thread may.
    pub(super) fn set<N>(self, page: u64, node: *mut N) {
        const { assert!(align_of::<N>() > TAG) };
        let Some((slot, tag)) = self.place(page) else { return };
        let node = node.cast::<()>().map_addr(|addr| addr | tag);
        if slot.acquire() != node {
            slot.set(node);
        }
    }

    /// Chooses the length of ranges anew if there are twice as many VMAs as the last time, or
    /// half as many. `shift` chooses, or says that the table is not to be asked. Returns `true` if
    /// it is to be. Called by the lock's holder.
    pub(super) fn tune(self, vmas: usize, shift: impl FnOnce() -> Option<u32>) -> bool {
        let vmas = vmas.max(1);
        let last = self.header.tuned_for.load(Ordering::Relaxed);
        if vmas < last / 2 || last <= vmas / 2 {
            self.header.tuned_for.store(1 << vmas.ilog2(), Ordering::Relaxed);
            let shift = shift().map_or(UNUSED, |shift| shift as usize);
            self.header.shift.store(shift, Ordering::Relaxed);
        }
        self.header.shift.load(Ordering::Relaxed) != UNUSED
    }
}

/// All tables that were given to a space, the last one first. They stay with it until it is sure
/// that no reader uses them.
pub(super) struct Tables(Link<Header>);

impl Tables {
    pub(super) fn new() -> Self {
        Self(Link::null())
    }

    /// Keeps a table. Called by the lock's holder.
    pub(super) fn push(&self, table: HintTable) -> NonNull<Header> {
        table.header().older.set(self.0.get());
        let table = table.into_raw();
        self.0.set(table.as_ptr());
        table
    }

    /// Frees all tables but `used`. The borrow says that there are no readers.
    pub(super) fn free_but(&mut self, used: *mut Header) {
        let mut at = self.0.get();
        self.0.set(used);
        while let Some(table) = NonNull::new(at) {
            // SAFETY: the tables in the list were not freed.
            let older = unsafe { &table.as_ref().older };
            at = older.get();
            if table.as_ptr() == used {
                older.set(ptr::null_mut());
            } else {
                // SAFETY: in the list until now, and there is nobody who could use it.
                unsafe { Header::free(table) };
            }
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.free_but(ptr::null_mut());
    }
}
