//! kvma's nodes: its slab allocator, given a frame at a time.

use core::mem::MaybeUninit;
use core::slice;

use kvma::Slab;
use kvma::node::Content;

use crate::frames::{self, FRAME_SIZE, Use};

/// Nodes for any number of address spaces. A frame that the slab was given stays in it, because
/// kvma's nodes are type-stable.
pub type Nodes<T> = Slab<'static, T, fn() -> Option<&'static mut [MaybeUninit<u8>]>>;

/// Makes an allocator that takes frames as it needs them.
pub const fn nodes<T: Content>() -> Nodes<T> {
    Slab::with_refill(new_frame)
}

fn new_frame() -> Option<&'static mut [MaybeUninit<u8>]> {
    let address = frames::allocate(Use::Nodes)?.into_address();
    let memory = frames::direct(address).cast::<MaybeUninit<u8>>();
    // SAFETY: the frame is new, and its address is kept nowhere else: it is the slab's for ever.
    Some(unsafe { slice::from_raw_parts_mut(memory, FRAME_SIZE as usize) })
}
