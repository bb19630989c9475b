//! Physical memory, one 4 KiB frame at a time or 2 MiB at once, with an owner written down for
//! each.
//!
//! Freed frames are filled with [`POISON`], which is checked when they are given out again, and the
//! lowest free ones go first: a frame freed too early is overwritten as soon as possible.

use core::ops::Range;

use kvma_machine::direct;
use spin::mutex::SpinMutex;

use crate::arch::MOST_BLOCKS;

pub const FRAME_SIZE: u64 = 4096;
/// The frames of a leaf of 2 MiB.
pub const BLOCK_FRAMES: usize = 512;
pub const BLOCK_SIZE: u64 = FRAME_SIZE * BLOCK_FRAMES as u64;

/// The contents of a freed frame.
pub const POISON: u32 = 0xdead_f4ee;

/// The largest number of frames.
const FRAMES: usize = MOST_BLOCKS * BLOCK_FRAMES;

/// The owner of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody yet: its contents are what the loader has left.
    Fresh,
    /// Nobody any more.
    Free,
    /// A table of this guest's second stage.
    Table(usize),
    /// A page of this guest's frame source.
    Source { guest: usize, page: u32 },
    /// The hypervisor, which shows it to guests by its address.
    Host,
}

struct Frames {
    base: u64,
    /// The number of frames.
    count: usize,
    /// No frame before this one is vacant.
    lowest: usize,
    owners: [Owner; FRAMES],
    /// Links of [`FrameList`]s.
    next: [u32; FRAMES],
}

static FRAMES_TABLE: SpinMutex<Frames> = SpinMutex::new(Frames {
    base: 0,
    count: 0,
    lowest: 0,
    owners: [Owner::Fresh; FRAMES],
    next: [0; FRAMES],
});

/// Takes over so many blocks of the RAM in `ram`.
///
/// # Safety
///
/// Must be called once, with RAM in the direct map that nothing else uses.
pub unsafe fn init(ram: Range<u64>, blocks: usize) {
    let base = ram.start.next_multiple_of(BLOCK_SIZE);
    assert!(base + blocks as u64 * BLOCK_SIZE <= ram.end, "too little memory: {ram:#x?}");
    let mut frames = FRAMES_TABLE.lock();
    assert!(blocks <= MOST_BLOCKS);
    (frames.base, frames.count) = (base, blocks * BLOCK_FRAMES);
}

/// Returns the number of all frames.
pub fn total() -> usize {
    FRAMES_TABLE.lock().count
}

impl Frames {
    fn index(&self, address: u64) -> usize {
        let index = address.wrapping_sub(self.base) / FRAME_SIZE;
        assert!(
            address.is_multiple_of(FRAME_SIZE) && index < self.count as u64,
            "{address:#x} is not a frame"
        );
        index as usize
    }

    fn give(&mut self, index: usize, owner: Owner) -> u64 {
        let address = self.base + index as u64 * FRAME_SIZE;
        if self.owners[index] == Owner::Free {
            check_poison(address);
        }
        self.owners[index] = owner;
        fill(address, 0);
        address
    }

    fn is_vacant(&self, index: usize) -> bool {
        matches!(self.owners[index], Owner::Fresh | Owner::Free)
    }
}

/// Checks a freed frame.
fn check_poison(address: u64) {
    const WORD: u64 = (POISON as u64) << 32 | POISON as u64;
    for word in double_words(address) {
        // SAFETY: as in `read`.
        let word = unsafe { word.read_volatile() };
        assert!(word == WORD, "frame {address:#x} was written to after it was freed: {word:#x}");
    }
}

/// Allocates a frame of zeros. `None` without memory.
pub fn allocate(owner: Owner) -> Option<u64> {
    let mut frames = FRAMES_TABLE.lock();
    let index = (frames.lowest..frames.count).find(|&index| frames.is_vacant(index))?;
    frames.lowest = index;
    Some(frames.give(index, owner))
}

/// Allocates `count` frames of zeros side by side, aligned to their size, a power of two.
pub fn allocate_root(count: usize, owner: Owner) -> Option<u64> {
    let mut frames = FRAMES_TABLE.lock();
    let mut starts = (0..frames.count).step_by(count);
    let start =
        starts.find(|&start| (start..start + count).all(|index| frames.is_vacant(index)))?;
    for number in 0..count {
        frames.give(start + number, owner);
    }
    Some(frames.base + start as u64 * FRAME_SIZE)
}

/// Allocates 2 MiB of zeros, aligned to their size. `owner` gets the number of each frame in them.
pub fn allocate_block(owner: impl Fn(u32) -> Owner) -> Option<u64> {
    let mut frames = FRAMES_TABLE.lock();
    let mut starts = (0..frames.count).step_by(BLOCK_FRAMES);
    let start =
        starts.find(|&start| (start..start + BLOCK_FRAMES).all(|index| frames.is_vacant(index)))?;
    for number in 0..BLOCK_FRAMES {
        frames.give(start + number, owner(number as u32));
    }
    Some(frames.base + start as u64 * FRAME_SIZE)
}

/// Allocates `count` frames of the hypervisor's own, side by side, the first of which lies `ahead`
/// frames after a multiple of 2 MiB.
pub fn allocate_host(ahead: usize, count: usize) -> Option<u64> {
    let mut frames = FRAMES_TABLE.lock();
    let mut starts = (ahead..frames.count.checked_sub(count)?).step_by(BLOCK_FRAMES);
    let start =
        starts.find(|&start| (start..start + count).all(|index| frames.is_vacant(index)))?;
    for number in 0..count {
        frames.give(start + number, Owner::Host);
    }
    Some(frames.base + start as u64 * FRAME_SIZE)
}

/// Checks that nobody has written to a frame after it was freed.
///
/// # Panics
///
/// If somebody has.
pub fn check_freed() {
    let frames = FRAMES_TABLE.lock();
    for index in (0..frames.count).filter(|&index| frames.owners[index] == Owner::Free) {
        check_poison(frames.base + index as u64 * FRAME_SIZE);
    }
}

/// Frees a frame, which is poisoned.
pub fn free(address: u64) {
    let mut frames = FRAMES_TABLE.lock();
    let index = frames.index(address);
    assert!(!frames.is_vacant(index), "frame {address:#x} freed twice");
    fill(address, POISON);
    frames.owners[index] = Owner::Free;
    frames.lowest = frames.lowest.min(index);
}

/// Returns the owner of the frame at this address.
pub fn owner(address: u64) -> Owner {
    let frames = FRAMES_TABLE.lock();
    frames.owners[frames.index(address)]
}

/// Returns the number of frames with such an owner.
pub fn count(is_meant: impl Fn(Owner) -> bool) -> usize {
    let frames = FRAMES_TABLE.lock();
    frames.owners[..frames.count].iter().filter(|&&owner| is_meant(owner)).count()
}

/// Reads a word of physical memory.
pub fn read(address: u64) -> u32 {
    assert!(address.is_multiple_of(4));
    // SAFETY: RAM, which the direct map covers. Volatile, because a guest may write there.
    unsafe { direct::<u32>(address).read_volatile() }
}

/// Writes a word of physical memory, which belongs to guests.
pub fn write(address: u64, value: u32) {
    assert!(address.is_multiple_of(4));
    // SAFETY: as in `read`; nothing in this hypervisor relies on the contents.
    unsafe { direct::<u32>(address).write_volatile(value) };
}

/// Returns the contents of a frame in double words.
fn double_words(address: u64) -> impl Iterator<Item = *mut u64> {
    assert!(address.is_multiple_of(FRAME_SIZE));
    let first = direct::<u64>(address);
    (0..FRAME_SIZE as usize / 8).map(move |number| first.wrapping_add(number))
}

fn fill(address: u64, value: u32) {
    let value = u64::from(value) << 32 | u64::from(value);
    for word in double_words(address) {
        // SAFETY: as in `write`.
        unsafe { word.write_volatile(value) };
    }
}

/// Copies a frame. Words that a guest writes meanwhile are copied as they were or as they are.
pub fn copy(from: u64, to: u64) {
    for (from, to) in double_words(from).zip(double_words(to)) {
        // SAFETY: as in `read` and `write`.
        unsafe { to.write_volatile(from.read_volatile()) };
    }
}

/// A double word of a frame that is not that of another frame.
#[cfg(target_arch = "riscv64")]
#[derive(Clone, Copy)]
pub struct Difference {
    /// In bytes.
    pub offset: u64,
    pub here: u64,
    pub there: u64,
}

/// Compares a frame with another one, or with zeros if there is none.
#[cfg(target_arch = "riscv64")]
pub fn differences(frame: u64, other: Option<u64>) -> impl Iterator<Item = Difference> {
    // SAFETY: as in `read`.
    let load = |word: *mut u64| unsafe { word.read_volatile() };
    let mut others = other.map(double_words);
    let pairs = double_words(frame).enumerate().map(move |(at, word)| {
        let other = others.as_mut().and_then(Iterator::next).map_or(0, load);
        Difference { offset: 8 * at as u64, here: load(word), there: other }
    });
    pairs.filter(|pair| pair.here != pair.there)
}

/// A list of frames to be freed, linked through the table of all, so that adding one needs no
/// memory. A frame is on one list at a time.
#[must_use]
#[derive(Default)]
pub struct FrameList {
    head: Option<u32>,
}

impl FrameList {
    pub const fn new() -> Self {
        Self { head: None }
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub fn push(&mut self, address: u64) {
        let mut frames = FRAMES_TABLE.lock();
        let index = frames.index(address);
        frames.next[index] = self.head.unwrap_or(u32::MAX);
        self.head = Some(index as u32);
    }

    fn pop(&mut self) -> Option<u64> {
        let index = self.head?;
        let frames = FRAMES_TABLE.lock();
        let next = frames.next[index as usize];
        self.head = (next != u32::MAX).then_some(next);
        Some(frames.base + u64::from(index) * FRAME_SIZE)
    }

    /// Frees all of them.
    pub fn free_all(&mut self) {
        while let Some(address) = self.pop() {
            free(address);
        }
    }
}
