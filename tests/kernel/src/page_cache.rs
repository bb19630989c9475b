//! The page cache: the frames of objects, one for each page of an object, whichever address spaces
//! map it.
//!
//! Objects that a file system has [registered](register) have pages of their own. All others are
//! made up: their contents follow from their numbers ([`Origin::Object`]).

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::ops::Range;

use spin::mutex::SpinMutex;

use crate::contents::Origin;
use crate::frames::{self, Frame, Use};
use crate::sorted::Sorted;

/// Memory for the list of [zero objects](note_zeros).
const ZEROS_MEMORY: u64 = 64 << 10;

/// The reason why a page cannot be brought in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is no memory for it.
    Memory,
    /// It lies beyond the end of the object.
    BeyondEnd,
}

/// An object with pages of its own.
pub trait Store: Send + Sync {
    /// Returns a reference to the frame of a page, which is brought in if it was not.
    fn frame(&self, page: u64) -> Result<Frame, Missing>;
}

/// The registered objects, by number.
static STORES: SpinMutex<BTreeMap<u64, Weak<dyn Store>>> = SpinMutex::new(BTreeMap::new());

/// Registers an object, so that mappings of this number show its pages.
pub fn register(id: u64, store: Weak<dyn Store>) {
    STORES.lock().insert(id, store);
}

/// Forgets an object, whose number no VMA has any more.
pub fn unregister(id: u64) {
    STORES.lock().remove(&id);
}

/// Returns the registered object of this number. `None` in the middle if it is about to go.
fn store(id: u64) -> Option<Option<Arc<dyn Store>>> {
    STORES.lock().get(&id).map(Weak::upgrade)
}

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
/// That of [`Sorted::new`].
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
    if STORES.lock().contains_key(&id) {
        return Origin::Stored { id, page };
    }
    with(|cache| cache.origin(id, page))
}

/// Returns a reference to the frame of page `page` of object `id`. The cache keeps another one.
pub fn frame(id: u64, page: u64) -> Result<Frame, Missing> {
    match store(id) {
        Some(Some(store)) => store.frame(page),
        Some(None) => Err(Missing::BeyondEnd),
        None => with(|cache| cache.frame(id, page)).map(frames::share).ok_or(Missing::Memory),
    }
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
