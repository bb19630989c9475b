//! This crate.

use std::sync::LazyLock;

use kvma::{
    Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, Search, VmMap, VmaNode,
};

use super::{LIMIT, Peer};

/// This crate's `VmMap`.
#[derive(Debug)]
pub struct Kvma(VmMap<(), &'static BoxAlloc<VmaNode>>);

impl Default for Kvma {
    fn default() -> Self {
        // As in a kernel: one allocator for all spaces, for ever.
        static HEAP: LazyLock<BoxAlloc<VmaNode>> = LazyLock::new(BoxAlloc::new);
        Self(VmMap::new(0..=LIMIT - 1, PageSize::SIZE_4K, &*HEAP).expect("a space"))
    }
}

fn attrs(id: u32) -> Attrs {
    Attrs::new(Prot::RW).with_user_bits(id.into())
}

impl Kvma {
    fn map(&mut self, placement: Placement, len: u64, id: u32) -> u64 {
        self.0.map(MapRequest::new(placement, len, attrs(id)), &mut NoHooks).expect("room")
    }
}

impl Peer for Kvma {
    const NAME: &'static str = "kvma";

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.map(Placement::FixedNoReplace(start), len, id);
    }

    fn insert_anywhere(&mut self, len: u64, id: u32) -> u64 {
        self.map(Placement::Any(Search::new()), len, id)
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.0.unmap(start, len, &mut NoHooks).expect("in the space");
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        self.0.find(addr).map_or(0, |vma| vma.start())
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for prot in [Prot::READ, Prot::RW] {
            self.0.protect(start, len, prot, &mut NoHooks).expect("mapped");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.map(Placement::Fixed(start), len, id);
    }

    fn find_gap(&self, len: u64) -> u64 {
        self.0.find_gap(len, &Search::new()).expect("room")
    }
}
