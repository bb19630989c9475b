//! Frames of shared objects: one for each page of an object, whatever address spaces map it.

use crate::{
    contents::Origin,
    frames::{self, Frame, Use},
    sorted::Sorted,
};
use core::ops::Range;
use spin::mutex::SpinMutex;

/// Memory for the list of [zero objects](note_zeros).
const ZEROS_MEMORY: u64 = 64 << 10;

struct PageCache {
    /// Frames by object and page in it.
    frames: Sorted<(u64, u64), u64>,
    /// Objects that begin as zeros.
    zeros: Sorted<u64, ()>,
}

/// Taken inside of page-table locks.
static CACHE: SpinMutex<Option<PageCache>> = SpinMutex::new(None);

fn with<R>(use_it: impl FnOnce(&mut PageCache) -> R) -> R {
    use_it(CACHE.lock().as_mut().expect("the page cache has memory"))
}

/// # Safety
///
/// As [`Sorted::new`].
pub unsafe fn init(memory: Range<u64>) {
    let zeros_end = memory.start + ZEROS_MEMORY;
    // SAFETY: passed on to the caller; the two parts do not overlap.
    let cache = unsafe {
        PageCache {
            zeros: Sorted::new(memory.start..zeros_end, (0, ())),
            frames: Sorted::new(zeros_end..memory.end, ((0, 0), 0)),
        }
    };
    *CACHE.lock() = Some(cache);
}

/// The object has no file behind it: every page of it begins as zeros.
pub fn note_zeros(id: u64) {
    with(|cache| cache.zeros.set(id, ()));
}

/// What page `page` of object `id` holds before anybody writes to it.
pub fn origin(id: u64, page: u64) -> Origin {
    with(|cache| cache.origin(id, page))
}

/// Physical address of the frame with page `page` of object `id`, which stays the cache's.
pub fn frame(id: u64, page: u64) -> Option<u64> {
    with(|cache| cache.frame(id, page))
}

/// Frees every frame. No page table may hold one any more.
pub fn drop_all() {
    with(|cache| {
        while let Some((_, address)) = cache.frames.take_first((0, 0), (u64::MAX, u64::MAX)) {
            // SAFETY: `frame` put the address there, and it has just been taken out.
            frames::free(unsafe { Frame::from_address(address) });
        }
    });
}

impl PageCache {
    fn origin(&self, id: u64, page: u64) -> Origin {
        match self.zeros.get(id) {
            Some(()) => Origin::Anonymous,
            None => Origin::Object { id, page },
        }
    }

    fn frame(&mut self, id: u64, page: u64) -> Option<u64> {
        if let Some(address) = self.frames.get((id, page)) {
            return Some(address);
        }
        let frame = frames::allocate(Use::Shared)?;
        self.origin(id, page).fill(&frame);
        let address = frame.into_address();
        self.frames.set((id, page), address);
        Some(address)
    }
}
