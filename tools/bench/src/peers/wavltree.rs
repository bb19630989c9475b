//! wavltree, the tree of the k23 kernel.

use std::mem::offset_of;
use std::ops::Bound;
use std::pin::Pin;
use std::ptr::NonNull;

use ::wavltree::{Linked, Links, WAVLTree};

use super::Peer;
use crate::Load;

/// wavltree: an intrusive tree. Splitting, merging and gaps are left to its users.
#[derive(Default)]
#[expect(missing_debug_implementations, reason = "the tree's own type has none")]
pub struct Wavl(WAVLTree<Vma>);

#[derive(Debug)]
struct Vma {
    links: Links<Self>,
    start: u64,
    end: u64,
}

// SAFETY: the box keeps the node where it is until the tree gives it back, and `links` are the
// node's own.
unsafe impl Linked for Vma {
    type Handle = Pin<Box<Self>>;
    type Key = u64;

    fn into_ptr(handle: Self::Handle) -> NonNull<Self> {
        // SAFETY: the tree does not move what the pointer names.
        NonNull::from(Box::leak(unsafe { Pin::into_inner_unchecked(handle) }))
    }

    unsafe fn from_ptr(node: NonNull<Self>) -> Self::Handle {
        // SAFETY: the pointer came from `into_ptr`, and the node was pinned since.
        unsafe { Pin::new_unchecked(Box::from_raw(node.as_ptr())) }
    }

    unsafe fn links(node: NonNull<Self>) -> NonNull<Links<Self>> {
        // SAFETY: the field lies in the node.
        unsafe { node.byte_add(offset_of!(Self, links)).cast() }
    }

    fn get_key(&self) -> &u64 {
        &self.start
    }
}

impl Peer for Wavl {
    const NAME: &'static str = "wavltree";
    const LOADS: &'static [Load] = &[Load::Lookup, Load::Near];

    fn len(&self) -> usize {
        self.0.size()
    }

    fn insert(&mut self, start: u64, len: u64, _: u32) {
        self.0.insert(Box::pin(Vma { links: Links::default(), start, end: start + len }));
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        let cursor = self.0.upper_bound(Bound::Included(&addr));
        cursor.get().filter(|vma| addr < vma.end).map_or(0, |vma| vma.start)
    }
}
