//! vmem.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Mutex;

use ::vmem::{AllocPolicy, Allocator, Arena, Bt};

use super::{Fit, LIMIT, PAGE, Peer};
use crate::Load;

/// vmem: Bonwick's resource allocator. It knows which ranges are taken, and nothing about them, and
/// takes a gap from a list of its size.
pub struct Vmem {
    arena: Arena<'static, 'static, Boxes, Mutex<()>>,
    count: usize,
}

impl fmt::Debug for Vmem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmem").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Boundary tags from the heap.
struct Boxes;

// SAFETY: a box's memory is valid and aligned for a tag until it is given back.
unsafe impl Allocator for Boxes {
    fn allocate(&self) -> Option<NonNull<Bt>> {
        NonNull::new(Box::into_raw(Box::<Bt>::new_uninit()).cast())
    }

    unsafe fn deallocate(&self, tag: NonNull<Bt>) {
        // SAFETY: the tag came from `allocate`, and is given back once.
        drop(unsafe { Box::from_raw(tag.as_ptr().cast::<std::mem::MaybeUninit<Bt>>()) });
    }
}

impl Default for Vmem {
    fn default() -> Self {
        let arena = Arena::create("VMAs", PAGE as usize, None, Boxes).expect("an arena");
        // Zero stands for no address.
        arena.add_span(PAGE as usize, LIMIT as usize).expect("memory");
        Self { arena, count: 0 }
    }
}

impl Vmem {
    fn take(&self, len: u64) -> usize {
        self.arena.alloc(len as usize, AllocPolicy::InstantFit).expect("room")
    }
}

impl Peer for Vmem {
    const NAME: &'static str = "vmem";
    const LOADS: &'static [Load] = &[Load::Churn, Load::Beyond];
    const LARGEST: usize = 10_000;
    const FIT: Fit = Fit::Other;

    /// It has no cheap way to take a range by its address: it takes everything in order, and gives
    /// the gaps back.
    fn build(starts: &[u64], len: u64) -> Self {
        let mut sorted = starts.to_vec();
        sorted.sort_unstable();
        let mut built = Self::default();
        let mut gaps = Vec::new();
        for (at, &start) in sorted.iter().enumerate() {
            assert_eq!(built.take(len) as u64, start + PAGE, "ranges are taken in order");
            built.count += 1;
            let end = start + len;
            let next = sorted.get(at + 1).copied().unwrap_or(end);
            if next > end {
                gaps.push(built.take(next - end));
            }
        }
        for gap in gaps {
            built.arena.free(gap).expect("taken");
        }
        built
    }

    fn len(&self) -> usize {
        self.count
    }

    fn insert(&mut self, _: u64, _: u64, _: u32) {
        unimplemented!("vmem is filled in order")
    }

    fn insert_anywhere(&mut self, len: u64, _: u32) -> u64 {
        self.count += 1;
        self.take(len) as u64 - PAGE
    }

    fn remove(&mut self, start: u64, _: u64) {
        self.arena.free((start + PAGE) as usize).expect("mapped");
        self.count -= 1;
    }
}
