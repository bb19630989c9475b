//! Frames of shared objects: one for each page of an object, whoever maps it, until the kernel ends.

use crate::{
    contents::Origin,
    frames::{self, Frame, Use},
    sorted::Sorted,
};
use core::ops::Range;

/// Frames by object and page in it.
pub struct PageCache(Sorted<(u64, u64), u64>);

impl PageCache {
    /// # Safety
    ///
    /// As [`Sorted::new`].
    pub unsafe fn new(memory: Range<u64>) -> Self {
        // SAFETY: passed on to the caller.
        Self(unsafe { Sorted::new(memory, ((0, 0), 0)) })
    }

    /// Physical address of the frame with page `page` of object `id`, which stays the cache's.
    pub fn frame(&mut self, id: u64, page: u64, origin: Origin) -> Option<u64> {
        if let Some(address) = self.0.get((id, page)) {
            return Some(address);
        }
        let frame = frames::allocate(Use::Shared)?;
        origin.fill(&frame);
        let address = frame.into_address();
        self.0.set((id, page), address);
        Some(address)
    }

    /// Frees every frame. No page table may hold one any more.
    pub fn drop_all(&mut self) {
        while let Some((_, address)) = self.0.take_first((0, 0), (u64::MAX, u64::MAX)) {
            // SAFETY: `frame` put the address there, and it has just been taken out.
            frames::free(unsafe { Frame::from_address(address) });
        }
    }
}
