//! kvma's memory: its slab allocator, fed a frame at a time.

use crate::frames::{self, FRAME_SIZE, Use};
use core::{mem::MaybeUninit, ptr::NonNull, slice};
use kvma::node::{Content, Node, NodeAlloc, Slab, TypeStable};

/// Nodes for any number of address spaces. A frame once handed over stays: kvma's nodes are
/// type-stable.
pub struct Nodes<T: Content + 'static>(Slab<'static, T>);

impl<T: Content> Nodes<T> {
    pub const fn new() -> Self {
        Self(Slab::new())
    }

    pub fn in_use(&self) -> usize {
        self.0.in_use()
    }

    fn grow(&self) -> Option<()> {
        let address = frames::allocate(Use::Nodes)?.into_address();
        let memory = frames::direct(address).cast::<MaybeUninit<u8>>();
        // SAFETY: the frame is ours, and its address is kept nowhere, so that it is the slab's for
        // good.
        let chunk = unsafe { slice::from_raw_parts_mut(memory, FRAME_SIZE as usize) };
        (self.0.donate(chunk) > 0).then_some(())
    }
}

// SAFETY: nodes come from the slab and go back to it; frames given to it are never taken back.
unsafe impl<T: Content> NodeAlloc<T> for Nodes<T> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        if self.0.available() == 0 {
            self.grow()?;
        }
        self.0.alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the caller's node came from `alloc`, which is the slab's.
        unsafe { self.0.dealloc(node) }
    }
}

// SAFETY: as the slab is.
unsafe impl<T: Content> TypeStable<T> for Nodes<T> {}
