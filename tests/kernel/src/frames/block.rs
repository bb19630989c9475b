//! Blocks: 2 MiB of frames that lie together, as one large leaf maps them.
//!
//! Each of the frames is counted for itself, so that a block may come apart: its frames get other
//! owners and are freed one by one. When all of them are free, they may be allocated as a block
//! again.

use super::{FRAME_SIZE, FRAMES, Frame, Frames, Use};

pub const BLOCK_SIZE: u64 = 2 << 20;
const FRAMES_PER_BLOCK: usize = (BLOCK_SIZE / FRAME_SIZE) as usize;

/// Blocks in the largest memory, which is what the direct map covers.
const MOST: usize = 2048;

/// The free list, as blocks see it.
pub(super) struct Blocks {
    /// The index of the first frame of the first block: those before it are in none.
    first: usize,
    /// How many frames of each block are in the free list.
    free: [u16; MOST],
}

impl Blocks {
    pub(super) const NONE: Self = Self { first: 0, free: [0; MOST] };

    /// Returns the blocks of memory of which no frame was freed yet. Frame 0 lies at `base`.
    pub(super) const fn of(base: u64) -> Self {
        let before = base.next_multiple_of(BLOCK_SIZE) - base;
        Self { first: (before / FRAME_SIZE) as usize, ..Self::NONE }
    }

    fn count(&mut self, index: u32) -> Option<&mut u16> {
        let within = (index as usize).checked_sub(self.first)?;
        self.free.get_mut(within / FRAMES_PER_BLOCK)
    }

    /// Notes that a frame was put into the free list.
    pub(super) fn note_free(&mut self, index: u32) {
        self.count(index).into_iter().for_each(|free| *free += 1);
    }

    /// Notes that a frame was taken out of the free list.
    pub(super) fn note_taken(&mut self, index: u32) {
        self.count(index).into_iter().for_each(|free| *free -= 1);
    }

    /// Returns the index of the first frame of a block that is wholly in the free list.
    fn find(&self) -> Option<usize> {
        let block = self.free.iter().position(|&free| usize::from(free) == FRAMES_PER_BLOCK)?;
        Some(self.first + block * FRAMES_PER_BLOCK)
    }
}

impl Frames {
    /// Takes a block out of the free list, or else out of the frames that were never allocated.
    /// Returns the index of its first frame.
    fn take_block(&mut self) -> Option<usize> {
        if let Some(first) = self.blocks.find() {
            (first..first + FRAMES_PER_BLOCK).for_each(|index| self.remove_free(index as u32));
            return Some(first);
        }
        let first = self.fresh.end.checked_sub(FRAMES_PER_BLOCK)?;
        if first < self.fresh.start.max(self.blocks.first) {
            return None;
        }
        self.fresh.end = first;
        Some(first)
    }
}

/// A reference to each frame of a block. It must be given up, as that to a single [`Frame`].
#[must_use]
#[derive(Debug)]
pub struct Block(u64);

impl Block {
    /// Allocates a block with undefined contents. `None` if no frames lie together.
    pub fn allocate(purpose: Use) -> Option<Self> {
        let mut frames = FRAMES.lock();
        let first = frames.take_block()?;
        for index in first..first + FRAMES_PER_BLOCK {
            // The block holds the reference.
            let _ = frames.begin_use(index as u32, purpose).into_address();
        }
        Some(Self(frames.address(first as u32)))
    }

    /// Makes another reference to each frame of the block at this address, all of which are in use.
    pub fn share(address: u64) -> Self {
        let mut frames = FRAMES.lock();
        for address in addresses(address) {
            let _ = frames.share(address).into_address();
        }
        Self(address)
    }

    /// Returns true if there is more than one reference to any frame of the block at this address.
    pub fn is_shared(address: u64) -> bool {
        addresses(address).any(super::is_shared)
    }

    /// Turns the references into the block's physical address, for a page-table entry to keep.
    pub fn into_address(self) -> u64 {
        self.0
    }

    /// Turns an address back into the references.
    ///
    /// # Safety
    ///
    /// `address` must come from [`Block::into_address`] and not have been turned back since, nor
    /// any of its frames.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }

    /// Iterates over the references to single frames, in ascending order.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        addresses(self.0).map(Frame)
    }

    /// Gives all references up.
    pub fn free(self) {
        self.into_frames().for_each(super::free);
    }

    /// Calls `fill` for each frame.
    pub fn fill(&self, fill: impl Fn(&Frame)) {
        addresses(self.0).for_each(|address| fill(&Frame(address)));
    }
}

/// Iterates over the addresses of the frames of a block.
fn addresses(block: u64) -> impl Iterator<Item = u64> {
    (block..block + BLOCK_SIZE).step_by(FRAME_SIZE as usize)
}
