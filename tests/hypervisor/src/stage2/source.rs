//! A guest's frame source: which frame holds which page of its memory.
//!
//! The second stage can forget a page at any time; the source knows it until it is given up.

use crate::frames::{self, BLOCK_FRAMES, BLOCK_SIZE, FRAME_SIZE, FrameList, Owner};

/// The frames of a guest, by the offset that `HostBacking::Frames` has.
pub struct Source {
    guest: usize,
    /// The number of each frame; zero where there is none.
    frames: &'static mut [u32],
}

impl Source {
    /// Makes the source of a guest, without frames. There is a page for each word, which is zero.
    pub fn new(guest: usize, frames: &'static mut [u32]) -> Self {
        Self { guest, frames }
    }

    /// Returns the bytes from the first offset to behind the last.
    pub fn len(&self) -> u64 {
        self.frames.len() as u64 * FRAME_SIZE
    }

    fn index(&self, offset: u64) -> usize {
        let index = (offset / FRAME_SIZE) as usize;
        assert!(index < self.frames.len(), "offset {offset:#x} lies behind the source");
        index
    }

    /// Returns the owner of the frame for this offset.
    pub fn owner(&self, offset: u64) -> Owner {
        Owner::Source { guest: self.guest, page: self.index(offset) as u32 }
    }

    /// Returns the frame that holds the page at this offset.
    pub fn frame(&self, offset: u64) -> Option<u64> {
        match self.frames[self.index(offset)] {
            0 => None,
            number => Some(u64::from(number) * FRAME_SIZE),
        }
    }

    /// Makes this the frame of a page that has none.
    pub fn put(&mut self, offset: u64, frame: u64) {
        assert!(self.frame(offset).is_none(), "the page at {offset:#x} has a frame");
        assert!(frames::owner(frame) == self.owner(offset), "a frame of somebody else's");
        let index = self.index(offset);
        self.frames[index] = (frame / FRAME_SIZE) as u32;
    }

    /// Returns true if none of the 2 MiB from this offset has a frame.
    pub fn is_vacant(&self, offset: u64) -> bool {
        let first = self.index(offset);
        self.frames[first..first + BLOCK_FRAMES].iter().all(|&number| number == 0)
    }

    /// Returns the frames of the 2 MiB from this offset, if they lie as one leaf needs them.
    pub fn block(&self, offset: u64) -> Option<u64> {
        let start = self.frame(offset).filter(|frame| frame.is_multiple_of(BLOCK_SIZE))?;
        let mut pages = (0..BLOCK_SIZE).step_by(FRAME_SIZE as usize);
        pages.all(|ahead| self.frame(offset + ahead) == Some(start + ahead)).then_some(start)
    }

    /// Takes the frames of `len` bytes from this offset away, into `list`.
    pub fn take(&mut self, offset: u64, len: u64, list: &mut FrameList) {
        for offset in (offset..offset + len).step_by(FRAME_SIZE as usize) {
            if let Some(frame) = self.frame(offset) {
                let index = self.index(offset);
                self.frames[index] = 0;
                list.push(frame);
            }
        }
    }

    /// Iterates over the pages that have a frame: offset and frame.
    pub fn pages(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.frames.len() as u64)
            .map(|page| page * FRAME_SIZE)
            .filter_map(|offset| Some((offset, self.frame(offset)?)))
    }
}
