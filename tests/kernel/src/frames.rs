//! Physical memory, one 4 KiB frame at a time.
//!
//! A test kernel's allocator is suspicious: it counts frames by use, fills freed ones with
//! [`POISON`], looks whether the poison is intact when it gives them out again, and prefers the
//! frame freed last, so that a frame freed too early is overwritten as soon as can be.
//!
//! A frame may have several owners, each with the duty to [`free`] it: it is free when the last one
//! has.

use crate::{
    arch::memory_map::DIRECT_MAP,
    cpus::{CPUS, number},
};
use core::ops::Range;
use spin::mutex::SpinMutex;

pub const FRAME_SIZE: u64 = 4096;
pub const WORDS: usize = (FRAME_SIZE / 8) as usize;

/// What a freed frame is filled with: INT3 instructions, should anybody execute it.
pub const POISON: u64 = 0xcccc_cccc_cccc_cccc;

/// What a frame is used for.
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

/// A frame, by its physical address, and the duty to give it back. There is no `Drop`: a lost frame
/// shows in [`in_use`] at the end.
#[must_use]
#[derive(Debug)]
pub struct Frame(u64);

impl Frame {
    /// Leaves the duty to whoever keeps the address, such as a page-table entry.
    pub fn into_address(self) -> u64 {
        self.0
    }

    /// # Safety
    ///
    /// `address` must come from [`Frame::into_address`] and not have been turned back since.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }

    pub fn zero(&self) {
        self.fill(|_| 0);
    }

    /// Writes every word through the direct map.
    pub fn fill(&self, mut word: impl FnMut(usize) -> u64) {
        for i in 0..WORDS {
            // SAFETY: the frame is ours, and the direct map covers all RAM. Volatile, because the
            // program may see the same memory at another address.
            unsafe { direct(self.0).add(i).write_volatile(word(i)) };
        }
    }

    /// Makes this frame hold what `other` holds.
    pub fn copy(&self, other: &Self) {
        self.fill(|i| other.word(i));
    }

    pub fn word(&self, index: usize) -> u64 {
        assert!(index < WORDS);
        // SAFETY: as in `fill`.
        unsafe { direct(self.0).add(index).read_volatile() }
    }
}

/// Where the direct map shows a physical address.
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
    /// Next in the free list.
    next: Option<u32>,
    /// Next in the [`FrameList`] of each processor: a frame that several own may be on both.
    listed: [Option<u32>; CPUS],
    state: State,
    /// How many have the duty to give it back.
    owners: u32,
}

impl Meta {
    fn new(state: State) -> Self {
        Self { next: None, listed: [None; CPUS], state, owners: 0 }
    }
}

struct Frames {
    base: u64,
    meta: &'static mut [Meta],
    /// Frames from here on were never given out.
    fresh: usize,
    free: Option<u32>,
    used: [usize; USES],
    peak: usize,
}

static FRAMES: SpinMutex<Frames> = SpinMutex::new(Frames {
    base: 0,
    meta: &mut [],
    fresh: 0,
    free: None,
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
}

/// Takes over the RAM in `ram`, whose beginning holds the allocator's own table.
///
/// # Safety
///
/// To be called once, with RAM in the direct map that nothing else uses.
pub unsafe fn init(ram: Range<u64>) {
    let begin = ram.start.next_multiple_of(FRAME_SIZE);
    let pages = ((ram.end - begin) / FRAME_SIZE) as usize;
    let table = (pages * size_of::<Meta>()) as u64;
    let base = (begin + table).next_multiple_of(FRAME_SIZE);
    let count = ((ram.end - base) / FRAME_SIZE) as usize;
    let meta = direct(begin).cast::<Meta>();
    for i in 0..count {
        // SAFETY: inside the RAM handed over, below `base`.
        unsafe { meta.add(i).write(Meta::new(State::Fresh)) };
    }
    let mut frames = FRAMES.lock();
    frames.base = base;
    // SAFETY: just initialised, and nobody else's.
    frames.meta = unsafe { core::slice::from_raw_parts_mut(meta, count) };
}

/// A frame with undefined contents, or `None` when memory is used up.
pub fn allocate(purpose: Use) -> Option<Frame> {
    let mut frames = FRAMES.lock();
    let index = match frames.free {
        Some(index) => {
            frames.free = frames.meta[index as usize].next;
            index
        }
        None if frames.fresh < frames.meta.len() => {
            frames.fresh += 1;
            (frames.fresh - 1) as u32
        }
        None => return None,
    };
    let frame = Frame(frames.address(index));
    let meta = &mut frames.meta[index as usize];
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
    *meta = Meta { owners: 1, ..Meta::new(State::Used(purpose)) };
    frames.used[purpose as usize] += 1;
    frames.peak = frames.peak.max(frames.used.iter().sum());
    Some(frame)
}

/// Gives the frame at this address, which is in use, one more owner.
pub fn share(address: u64) -> Frame {
    let mut frames = FRAMES.lock();
    let index = frames.index(address);
    let meta = &mut frames.meta[index];
    assert!(
        matches!(meta.state, State::Used(_)),
        "frame {address:#x} is shared after it was freed"
    );
    meta.owners += 1;
    Frame(address)
}

/// Whether the frame at this address has several owners.
pub fn is_shared(address: u64) -> bool {
    let frames = FRAMES.lock();
    frames.meta[frames.index(address)].owners > 1
}

/// Gives up one owner's part. With the last one, poisons the frame and makes it the next one to be
/// given out.
pub fn free(frame: Frame) {
    let mut frames = FRAMES.lock();
    let index = frames.index(frame.0);
    let State::Used(purpose) = frames.meta[index].state else {
        panic!("frame {:#x} freed twice", frame.0)
    };
    frames.meta[index].owners -= 1;
    if frames.meta[index].owners > 0 {
        return;
    }
    frame.fill(|_| POISON);
    frames.meta[index] = Meta { next: frames.free, ..Meta::new(State::Free) };
    frames.free = Some(index as u32);
    frames.used[purpose as usize] -= 1;
}

/// What the frame at this address is used for.
pub fn purpose(address: u64) -> Option<Use> {
    let frames = FRAMES.lock();
    match frames.meta[frames.index(address)].state {
        State::Used(purpose) => Some(purpose),
        State::Fresh | State::Free => None,
    }
}

pub fn in_use(purpose: Use) -> usize {
    FRAMES.lock().used[purpose as usize]
}

pub fn peak() -> usize {
    FRAMES.lock().peak
}

pub fn total() -> usize {
    FRAMES.lock().meta.len()
}

/// Frames kept for later, linked through the allocator's own table: adding one needs no memory. A
/// list is used by the processor that made it, and a frame is on one of its lists at a time.
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
        let index = frames.index(frame.into_address());
        frames.meta[index].listed[number()] = self.head;
        self.head = Some(index as u32);
    }

    pub fn pop(&mut self) -> Option<Frame> {
        let mut frames = FRAMES.lock();
        let index = self.head?;
        self.head = frames.meta[index as usize].listed[number()].take();
        Some(Frame(frames.address(index)))
    }

    /// Frees them all.
    pub fn free_all(&mut self) {
        while let Some(frame) = self.pop() {
            free(frame);
        }
    }
}
