//! Physical memory: 4 KiB frames, one at a time or as a [`Block`].
//!
//! The allocator is made to notice mistakes: it counts frames by use, fills freed frames with
//! [`POISON`], checks that the poison is intact when it allocates them again, and prefers the frame
//! freed last, so that a frame freed too early is overwritten as soon as possible.
//!
//! Frames are reference-counted: each reference must be given up with [`free`], and the last one
//! frees the frame.

mod block;

use core::ops::Range;

use spin::mutex::SpinMutex;

use self::block::Blocks;
pub use self::block::{BLOCK_SIZE, Block};
use crate::arch::memory_map::DIRECT_MAP;
use crate::cpus::{CPUS, number};

pub const FRAME_SIZE: u64 = 4096;
pub const WORDS: usize = (FRAME_SIZE / 8) as usize;

/// The contents of a freed frame: instructions that trap, in case it is executed.
pub const POISON: u64 = crate::arch::probe::TRAPS;

/// The use of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A page table of any level.
    Table,
    /// A private page of the replayed process.
    Private,
    /// A page of a shared object, kept by the page cache.
    Shared,
    /// A chunk of kvma's nodes.
    Nodes,
}
const USES: usize = 4;

/// A reference to a frame, which must be given up with [`free`]. There is no `Drop`: a reference
/// that is lost shows in [`in_use`] at the end.
#[must_use]
#[derive(Debug)]
pub struct Frame(u64);

impl Frame {
    /// Turns the reference into the frame's physical address, for a page-table entry to keep.
    pub fn into_address(self) -> u64 {
        self.0
    }

    /// Turns an address back into the reference.
    ///
    /// # Safety
    ///
    /// `address` must come from [`Frame::into_address`] and not have been turned back since.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }

    /// Returns true if this is the frame at a physical address.
    pub fn is_at(&self, address: u64) -> bool {
        self.0 == address
    }

    /// Fills the frame with zeros.
    pub fn zero(&self) {
        self.fill(|_| 0);
    }

    /// Writes every word through the direct map.
    pub fn fill(&self, mut word: impl FnMut(usize) -> u64) {
        for i in 0..WORDS {
            // SAFETY: the frame is in use, and the direct map covers all RAM. Volatile, because the
            // program may map the same memory at another address.
            unsafe { direct(self.0).add(i).write_volatile(word(i)) };
        }
    }

    /// Makes another reference to the frame.
    pub fn duplicate(&self) -> Self {
        share(self.0)
    }

    /// Copies bytes from `offset` on out of the frame.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        read_bytes(self.0, offset, buffer);
    }

    /// Copies bytes to `offset` in the frame.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        write_bytes(self.0, offset, bytes);
    }

    /// Copies the contents of `other` to this frame.
    pub fn copy(&self, other: &Self) {
        self.fill(|i| other.word(i));
    }

    /// Returns a word of the frame.
    pub fn word(&self, index: usize) -> u64 {
        assert!(index < WORDS);
        // SAFETY: as in `fill`.
        unsafe { direct(self.0).add(index).read_volatile() }
    }
}

/// Copies bytes out of the frame at `address`, which is in use meanwhile.
pub fn read_bytes(address: u64, offset: u64, buffer: &mut [u8]) {
    assert!(offset + buffer.len() as u64 <= FRAME_SIZE);
    // SAFETY: inside a frame, which the direct map covers. The buffer is the kernel's own. A
    // program that writes there meanwhile gets what it deserves: some of the bytes.
    unsafe {
        let from = direct(address).cast::<u8>().add(offset as usize);
        core::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len());
    }
}

/// Copies bytes into the frame at `address`, which is in use meanwhile.
pub fn write_bytes(address: u64, offset: u64, bytes: &[u8]) {
    assert!(offset + bytes.len() as u64 <= FRAME_SIZE);
    // SAFETY: as in `read_bytes`.
    unsafe {
        let to = direct(address).cast::<u8>().add(offset as usize);
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
    }
}

/// Returns the 32-bit word at an offset that is a multiple of 4, as programs change it atomically.
pub fn atomic_word(address: u64, offset: u64) -> &'static core::sync::atomic::AtomicU32 {
    assert!(offset.is_multiple_of(4) && offset + 4 <= FRAME_SIZE);
    // SAFETY: inside a frame, which the direct map covers for ever. The frame may get another use,
    // but stays memory that every use writes to by volatile or atomic accesses alone.
    unsafe { &*direct(address).cast::<core::sync::atomic::AtomicU32>().add(offset as usize / 4) }
}

/// Returns the address of physical memory in the direct map.
pub fn direct(physical: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + physical) as usize)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Free,
    Used(Use),
}

#[derive(Clone, Copy)]
struct Meta {
    /// Next and previous in the free list.
    next: Option<u32>,
    previous: Option<u32>,
    /// Next in the [`FrameList`] of each processor. A shared frame may be on both lists.
    listed: [Option<u32>; CPUS],
    /// The number of references that the lists of each processor hold.
    on_list: [u32; CPUS],
    state: State,
    /// Number of references.
    references: u32,
}

impl Meta {
    fn new(state: State) -> Self {
        let (listed, on_list) = ([None; CPUS], [0; CPUS]);
        Self { next: None, previous: None, listed, on_list, state, references: 0 }
    }
}

struct Frames {
    base: u64,
    meta: &'static mut [Meta],
    /// Frames that were never allocated. Single ones are taken from the beginning, blocks from the
    /// end.
    fresh: Range<usize>,
    free: Option<u32>,
    blocks: Blocks,
    used: [usize; USES],
    peak: usize,
}

static FRAMES: SpinMutex<Frames> = SpinMutex::new(Frames {
    base: 0,
    meta: &mut [],
    fresh: 0..0,
    free: None,
    blocks: Blocks::NONE,
    used: [0; USES],
    peak: 0,
});

impl Frames {
    fn index(&self, address: u64) -> usize {
        let index = address.wrapping_sub(self.base) / FRAME_SIZE;
        assert!(
            address.is_multiple_of(FRAME_SIZE) && index < self.meta.len() as u64,
            "{address:#x} is not a frame"
        );
        index as usize
    }

    fn address(&self, index: u32) -> u64 {
        self.base + u64::from(index) * FRAME_SIZE
    }

    /// Puts a frame in front of the free list.
    fn add_free(&mut self, index: u32) {
        if let Some(next) = self.free {
            self.meta[next as usize].previous = Some(index);
        }
        self.meta[index as usize] = Meta { next: self.free, ..Meta::new(State::Free) };
        self.free = Some(index);
        self.blocks.note_free(index);
    }

    /// Takes a frame out of the free list.
    fn remove_free(&mut self, index: u32) {
        let Meta { next, previous, .. } = self.meta[index as usize];
        match previous {
            Some(previous) => self.meta[previous as usize].next = next,
            None => self.free = next,
        }
        if let Some(next) = next {
            self.meta[next as usize].previous = previous;
        }
        self.blocks.note_taken(index);
    }

    /// Makes a reference to a frame that has none, and is not in the free list.
    ///
    /// # Panics
    ///
    /// If the frame was written to after it was freed.
    fn begin_use(&mut self, index: u32, purpose: Use) -> Frame {
        let frame = Frame(self.address(index));
        let meta = &mut self.meta[index as usize];
        if meta.state == State::Free {
            for i in 0..WORDS {
                let word = frame.word(i);
                assert!(
                    word == POISON,
                    "frame {:#x} was written to after it was freed: word {i} holds {word:#x}",
                    frame.0
                );
            }
        }
        *meta = Meta { references: 1, ..Meta::new(State::Used(purpose)) };
        self.used[purpose as usize] += 1;
        self.peak = self.peak.max(self.used.iter().sum());
        frame
    }

    /// Makes another reference to a frame that is in use.
    fn share(&mut self, address: u64) -> Frame {
        let index = self.index(address);
        let meta = &mut self.meta[index];
        assert!(
            matches!(meta.state, State::Used(_)),
            "frame {address:#x} is shared after it was freed"
        );
        meta.references += 1;
        Frame(address)
    }
}

/// Takes over the RAM in `ram`. The allocator's own table lies at its beginning.
///
/// # Safety
///
/// Must be called once, with RAM in the direct map that nothing else uses.
pub unsafe fn init(ram: Range<u64>) {
    let begin = ram.start.next_multiple_of(FRAME_SIZE);
    let pages = ((ram.end - begin) / FRAME_SIZE) as usize;
    let table = (pages * size_of::<Meta>()) as u64;
    let base = (begin + table).next_multiple_of(FRAME_SIZE);
    // Up to the end of a block.
    let end = ram.end & !(BLOCK_SIZE - 1);
    let count = (end.saturating_sub(base) / FRAME_SIZE) as usize;
    let meta = direct(begin).cast::<Meta>();
    for i in 0..count {
        // SAFETY: inside `ram`, below `base`.
        unsafe { meta.add(i).write(Meta::new(State::Fresh)) };
    }
    let mut frames = FRAMES.lock();
    frames.base = base;
    frames.fresh = 0..count;
    frames.blocks = Blocks::of(base);
    // SAFETY: just initialised, and used by nothing else.
    frames.meta = unsafe { core::slice::from_raw_parts_mut(meta, count) };
}

/// Allocates a frame with undefined contents. `None` without memory.
pub fn allocate(purpose: Use) -> Option<Frame> {
    let mut frames = FRAMES.lock();
    let index = match frames.free {
        Some(index) => {
            frames.remove_free(index);
            index
        }
        None => frames.fresh.next()? as u32,
    };
    Some(frames.begin_use(index, purpose))
}

/// Makes another reference to the frame at this address, which is in use.
pub fn share(address: u64) -> Frame {
    FRAMES.lock().share(address)
}

/// Returns true if there is more than one reference to the frame at this address.
pub fn is_shared(address: u64) -> bool {
    references(address) > 1
}

/// Returns the number of references to the frame at this address.
pub fn references(address: u64) -> u32 {
    let frames = FRAMES.lock();
    frames.meta[frames.index(address)].references
}

/// Gives up a reference. The last one frees the frame, which is poisoned and allocated next.
pub fn free(frame: Frame) {
    let mut frames = FRAMES.lock();
    let index = frames.index(frame.0);
    let State::Used(purpose) = frames.meta[index].state else {
        panic!("frame {:#x} freed twice", frame.0)
    };
    frames.meta[index].references -= 1;
    if frames.meta[index].references > 0 {
        return;
    }
    frame.fill(|_| POISON);
    frames.add_free(index as u32);
    frames.used[purpose as usize] -= 1;
}

/// Returns the use of the frame at this address.
pub fn purpose(address: u64) -> Option<Use> {
    let frames = FRAMES.lock();
    match frames.meta[frames.index(address)].state {
        State::Used(purpose) => Some(purpose),
        State::Fresh | State::Free => None,
    }
}

/// Returns the number of frames in use for a purpose.
pub fn in_use(purpose: Use) -> usize {
    FRAMES.lock().used[purpose as usize]
}

/// Returns the number of frames that are free.
pub fn unused() -> usize {
    let frames = FRAMES.lock();
    frames.meta.len() - frames.used.iter().sum::<usize>()
}

/// Returns the largest number of frames that were in use at the same time.
pub fn peak() -> usize {
    FRAMES.lock().peak
}

/// Returns the number of all frames.
pub fn total() -> usize {
    FRAMES.lock().meta.len()
}

/// A list of references to frames, linked through the allocator's own table, so that adding one
/// needs no memory. Only the processor that made a list uses it.
///
/// A frame is on one list of a processor at a time, and counted there as often as it was added. So
/// of two lists that hold references to one frame, the first keeps them all; the second one must
/// not outlive it.
#[must_use]
#[derive(Default)]
pub struct FrameList {
    head: Option<u32>,
}

impl FrameList {
    pub const fn new() -> Self {
        Self { head: None }
    }

    pub fn push(&mut self, frame: Frame) {
        let mut frames = FRAMES.lock();
        let (index, cpu) = (frames.index(frame.into_address()), number());
        let meta = &mut frames.meta[index];
        meta.on_list[cpu] += 1;
        if meta.on_list[cpu] == 1 {
            meta.listed[cpu] = self.head;
            self.head = Some(index as u32);
        }
    }

    pub fn pop(&mut self) -> Option<Frame> {
        let mut frames = FRAMES.lock();
        let (index, cpu) = (self.head?, number());
        let meta = &mut frames.meta[index as usize];
        meta.on_list[cpu] -= 1;
        if meta.on_list[cpu] == 0 {
            self.head = meta.listed[cpu].take();
        }
        Some(Frame(frames.address(index)))
    }

    /// Gives up all references.
    pub fn free_all(&mut self) {
        while let Some(frame) = self.pop() {
            free(frame);
        }
    }
}
