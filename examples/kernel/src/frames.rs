//! Physical memory, one frame of 4 KiB at a time.
//!
//! Free frames are linked through a table beside them, never through the frames themselves: until
//! the TLB has been flushed, a frame that was unmapped may still be written to.

use core::cell::UnsafeCell;

use spin::mutex::SpinMutex;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PhysFrame, Size4KiB};

const SIZE: u64 = 4096;
const COUNT: usize = 1024;

/// The frames. A kernel for a real machine takes them from the boot loader's memory map.
#[repr(align(4096))]
struct Memory(UnsafeCell<[[u8; SIZE as usize]; COUNT]>);

// SAFETY: a frame is touched only by whoever has it from the allocator.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([[0; SIZE as usize]; COUNT]));

struct Frames {
    /// Next in the list that a frame is in: the free frames, or a [`FrameList`].
    next: [Option<u16>; COUNT],
    free: Option<u16>,
    /// Frames from here on were never allocated.
    fresh: u16,
    in_use: usize,
}

static FRAMES: SpinMutex<Frames> =
    SpinMutex::new(Frames { next: [None; COUNT], free: None, fresh: 0, in_use: 0 });

fn base() -> u64 {
    // The kernel is mapped one to one, so this is the physical address as well.
    MEMORY.0.get() as u64
}

/// Returns the frame's bytes, for whoever has the frame to itself.
pub fn bytes(frame: PhysFrame) -> *mut [u8; SIZE as usize] {
    core::ptr::with_exposed_provenance_mut(frame.start_address().as_u64() as usize)
}

/// Allocates a frame full of zeros: no program may see what another one has left behind.
pub fn allocate() -> Option<PhysFrame> {
    let index = {
        let mut frames = FRAMES.lock();
        let index = match frames.free {
            Some(index) => {
                frames.free = frames.next[usize::from(index)];
                index
            }
            None if usize::from(frames.fresh) < COUNT => {
                frames.fresh += 1;
                frames.fresh - 1
            }
            None => return None,
        };
        frames.in_use += 1;
        index
    };
    let frame = PhysFrame::containing_address(PhysAddr::new(base() + u64::from(index) * SIZE));
    // SAFETY: nobody else has this frame.
    unsafe { bytes(frame).write([0; SIZE as usize]) };
    Some(frame)
}

/// Gives a frame back that no page-table entry and no TLB knows of.
pub fn free(frame: PhysFrame) {
    let mut list = FrameList::default();
    list.push(frame);
    list.free_all();
}

/// Returns the number of frames that are in use, page tables included.
pub fn in_use() -> usize {
    FRAMES.lock().in_use
}

/// The frame allocator of the `x86_64` crate, for page tables.
pub struct Allocator;

// SAFETY: each frame is handed out once until it comes back.
unsafe impl FrameAllocator<Size4KiB> for Allocator {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        allocate()
    }
}

/// Frames that wait for the end of a TLB flush. Adding one needs no memory.
#[derive(Default)]
pub struct FrameList {
    head: Option<u16>,
}

impl FrameList {
    pub fn push(&mut self, frame: PhysFrame) {
        let index = ((frame.start_address().as_u64() - base()) / SIZE) as u16;
        FRAMES.lock().next[usize::from(index)] = self.head.replace(index);
    }

    /// Gives the frames back.
    pub fn free_all(&mut self) {
        let mut frames = FRAMES.lock();
        while let Some(index) = self.head {
            let free = frames.free.replace(index);
            self.head = core::mem::replace(&mut frames.next[usize::from(index)], free);
            frames.in_use -= 1;
        }
    }
}

impl FrameDeallocator<Size4KiB> for FrameList {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        self.push(frame);
    }
}
