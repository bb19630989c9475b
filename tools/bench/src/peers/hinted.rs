//! This crate's address space, with hints.

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;

use kvma::addr_space::{HintTable, LookupHint};
use kvma::{
    AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, Search, VmMap,
    VmaNode,
};

use super::{LIMIT, Peer};

/// This crate's `AddrSpace`, as page faults and system calls use it: with its lock, lookups without
/// it, a table of hints with a slot for each VMA, and the caller's own hint.
pub struct Hinted {
    space: AddrSpace<VmMap<(), &'static BoxAlloc<VmaNode>>>,
    hint: Cell<LookupHint>,
}

impl fmt::Debug for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hinted").field("len", &self.space.len()).finish_non_exhaustive()
    }
}

impl Default for Hinted {
    fn default() -> Self {
        // As in a kernel: one allocator for all spaces, for ever.
        static HEAP: LazyLock<BoxAlloc<VmaNode>> = LazyLock::new(BoxAlloc::new);
        let map = VmMap::new(0..=LIMIT - 1, PageSize::SIZE_4K, &*HEAP).expect("a space");
        Self { space: AddrSpace::new(map), hint: Cell::default() }
    }
}

impl Hinted {
    fn map(&self, placement: Placement, len: u64, id: u32) -> u64 {
        let attrs = Attrs::new(Prot::RW).with_user_bits(id.into());
        self.space.map(MapRequest::new(placement, len, attrs), &mut NoHooks).expect("room")
    }
}

impl Peer for Hinted {
    const NAME: &'static str = "kvma with hints";

    fn build(starts: &[u64], len: u64) -> Self {
        let mut built = Self::default();
        for (id, &start) in starts.iter().enumerate() {
            built.insert(start, len, id as u32);
        }
        let table = HintTable::boxed(starts.len().next_power_of_two()).expect("memory");
        built.space.set_hints(table).expect("boxes stay nodes");
        // The first lookup of each fills its slot.
        for &start in starts {
            assert_eq!(built.find(start), start);
        }
        built
    }

    fn len(&self) -> usize {
        self.space.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.map(Placement::FixedNoReplace(start), len, id);
    }

    fn insert_anywhere(&mut self, len: u64, id: u32) -> u64 {
        self.map(Placement::Any(Search::new()), len, id)
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.space.unmap(start, len, &mut NoHooks).expect("in the space");
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        let mut hint = self.hint.get();
        let found = self.space.lookup_near(addr, &mut hint);
        self.hint.set(hint);
        found.map_or(0, |vma| vma.range().start())
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for prot in [Prot::READ, Prot::RW] {
            self.space.protect(start, len, prot, &mut NoHooks).expect("mapped");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.map(Placement::Fixed(start), len, id);
    }

    fn find_gap(&self, len: u64) -> u64 {
        self.space.inspect(|map| map.find_gap(len, &Search::new())).expect("room")
    }
}
