//! The page cache: the frames of shared objects, one for each page of an object, whichever address
//! spaces map it.

use core::ops::Range;

use spin::mutex::SpinMutex;

use crate::contents::Origin;
use crate::frames::{self, Frame, Use};
use crate::sorted::Sorted;

/// Memory for the list of [zero objects](note_zeros).
const ZEROS_MEMORY: u64 = 64 << 10;

struct PageCache {
    /// Frames by object and page in it.
    frames: Sorted<(u64, u64), u64>,
    /// Objects that begin as zeros.
    zeros: Sorted<u64, ()>,
}

/// The lock is taken inside page-table locks.
static CACHE: SpinMutex<Option<PageCache>> = SpinMutex::new(None);

fn with<R>(use_it: impl FnOnce(&mut PageCache) -> R) -> R {
    use_it(CACHE.lock().as_mut().expect("the page cache has memory"))
}

/// Gives the cache memory for its lists.
///
/// # Safety
///
/// As [`Sorted::new`].
pub unsafe fn init(memory: Range<u64>) {
    let zeros_end = memory.start + ZEROS_MEMORY;
    // SAFETY: the caller's promise, and the two parts do not overlap.
    let cache = unsafe {
        PageCache {
            zeros: Sorted::new(memory.start..zeros_end, (0, ())),
            frames: Sorted::new(zeros_end..memory.end, ((0, 0), 0)),
        }
    };
    *CACHE.lock() = Some(cache);
}

/// Notes that an object is not a file, so that every page of it begins as zeros.
pub fn note_zeros(id: u64) {
    with(|cache| cache.zeros.set(id, ()));
}

/// Returns the origin of page `page` of object `id`.
pub fn origin(id: u64, page: u64) -> Origin {
    with(|cache| cache.origin(id, page))
}

/// Returns the physical address of the frame of page `page` of object `id`. The reference stays in
/// the cache.
pub fn frame(id: u64, page: u64) -> Option<u64> {
    with(|cache| cache.frame(id, page))
}

/// Frees every frame. No page table may map one any more.
pub fn drop_all() {
    with(|cache| {
        while let Some((_, address)) = cache.frames.take_first((0, 0), (u64::MAX, u64::MAX)) {
            // SAFETY: `frame` has put the address there, and it has just been removed.
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
