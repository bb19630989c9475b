//! The kernel's heap, for whatever is not counted in frames: files' names, threads, lists.

use core::ops::Range;

use spin::mutex::SpinMutex;
use talc::{ErrOnOom, Span, Talc, Talck};

use crate::frames;

#[global_allocator]
static HEAP: Talck<SpinMutex<()>, ErrOnOom> = Talc::new(ErrOnOom).lock();

/// Gives the heap its memory.
///
/// # Safety
///
/// `memory` (physical) must be RAM in the direct map that nothing else ever uses.
pub unsafe fn init(memory: Range<u64>) {
    let (begin, len) = (frames::direct(memory.start), memory.end - memory.start);
    let span = Span::from_base_size(begin.cast(), len as usize);
    // SAFETY: the caller's promise.
    let claimed = unsafe { HEAP.lock().claim(span) };
    assert!(claimed.is_ok(), "no heap in {memory:#x?}");
}
