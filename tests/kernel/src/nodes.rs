//! kvma's nodes: its slab allocator, given a frame at a time.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::slice;

use kvma::node::{Content, Node, NodeAlloc, Slab, TypeStable};

use crate::frames::{self, FRAME_SIZE, Use};

/// Nodes for any number of address spaces. A frame that the slab was given stays in it, because
/// kvma's nodes are type-stable.
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
        // SAFETY: the frame is new, and its address is kept nowhere else: it is the slab's for
        // ever.
        let chunk = unsafe { slice::from_raw_parts_mut(memory, FRAME_SIZE as usize) };
        (self.0.donate(chunk) > 0).then_some(())
    }
}

// SAFETY: nodes come from the slab and go back to it. Its frames are never taken back.
unsafe impl<T: Content> NodeAlloc<T> for Nodes<T> {
    fn alloc(&self) -> Option<NonNull<Node<T>>> {
        if self.0.available() == 0 {
            self.grow()?;
        }
        self.0.alloc()
    }

    unsafe fn dealloc(&self, node: NonNull<Node<T>>) {
        // SAFETY: the node came from `alloc`, so from the slab.
        unsafe { self.0.dealloc(node) }
    }
}

// SAFETY: as the slab is.
unsafe impl<T: Content> TypeStable<T> for Nodes<T> {}
