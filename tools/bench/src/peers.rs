//! The containers. Each holds VMAs with a number and a protection. Equal neighbours may merge.

use std::collections::{BTreeMap, BTreeSet};

use memory_addr::{AddrRange, VirtAddr};
use memory_set::{MappingBackend, MemoryArea};

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// One past the last byte that may be mapped.
pub const LIMIT: u64 = 1 << 47;

/// A container, as the workloads use it. Lengths are in bytes.
pub trait Peer: Default {
    /// Its name, for tables.
    const NAME: &'static str;

    /// Returns the number of VMAs.
    fn len(&self) -> usize;

    /// Returns true if there are no VMAs.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Maps a free range.
    fn insert(&mut self, start: u64, len: u64, id: u32);

    /// Maps a range in the lowest gap that holds it, and returns its start.
    fn insert_lowest(&mut self, len: u64, id: u32) -> u64 {
        let start = self.lowest_gap(len);
        self.insert(start, len, id);
        start
    }

    /// Unmaps a range that is exactly one VMA.
    fn remove(&mut self, start: u64, len: u64);

    /// Returns the start of the VMA that holds `addr`.
    fn find(&self, addr: u64) -> u64;

    /// Takes the write permission of a part of a VMA and gives it back.
    fn protect_and_back(&mut self, start: u64, len: u64);

    /// Maps a range and replaces what was mapped there.
    fn overwrite(&mut self, start: u64, len: u64, id: u32);

    /// Returns the start of the lowest gap that holds `len` bytes.
    fn lowest_gap(&self, len: u64) -> u64;
}

mod ours {
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

        fn insert_lowest(&mut self, len: u64, id: u32) -> u64 {
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

        fn lowest_gap(&self, len: u64) -> u64 {
            self.0.find_gap(len, &Search::new()).expect("room")
        }
    }
}

pub use ours::Kvma;

/// The standard library's map, with splitting and merging written by hand and an index of gaps by
/// size. It takes the smallest gap that is large enough, where the others take the lowest.
#[derive(Debug)]
pub struct BTree {
    vmas: BTreeMap<u64, (u64, u32, bool)>,
    free: BTreeSet<(u64, u64)>,
}

impl Default for BTree {
    fn default() -> Self {
        Self { vmas: BTreeMap::new(), free: BTreeSet::from([(LIMIT, 0)]) }
    }
}

impl BTree {
    /// Returns the gap that holds the free range `start..end`.
    fn around(&self, start: u64, end: u64) -> (u64, u64) {
        let from = self.vmas.range(..start).next_back().map_or(0, |(_, vma)| vma.0);
        let to = self.vmas.range(end..).next().map_or(LIMIT, |(&start, _)| start);
        (from, to)
    }

    fn add_gap(&mut self, start: u64, end: u64) {
        if start < end {
            self.free.insert((end - start, start));
        }
    }

    fn occupy(&mut self, start: u64, end: u64) {
        let (from, to) = self.around(start, end);
        self.free.remove(&(to - from, from));
        self.add_gap(from, start);
        self.add_gap(end, to);
    }

    fn vacate(&mut self, start: u64, end: u64) {
        let (from, to) = self.around(start, end);
        for (a, b) in [(from, start), (end, to)] {
            self.free.remove(&(b - a, a));
        }
        self.add_gap(from, to);
    }

    /// Splits the VMA that lies across `at`, if there is one.
    fn split(&mut self, at: u64) {
        if let Some((&start, vma)) = self.vmas.range_mut(..at).next_back() {
            let (end, id, write) = *vma;
            if end > at && start < at {
                vma.0 = at;
                self.vmas.insert(at, (end, id, write));
            }
        }
    }

    /// Merges the VMAs on both sides of `at` if they are equal.
    fn merge(&mut self, at: u64) {
        let Some(&(end, id, write)) = self.vmas.get(&at) else { return };
        if let Some((_, left)) = self.vmas.range_mut(..at).next_back()
            && *left == (at, id, write)
        {
            left.0 = end;
            self.vmas.remove(&at);
        }
    }
}

impl Peer for BTree {
    const NAME: &'static str = "BTreeMap";

    fn len(&self) -> usize {
        self.vmas.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.occupy(start, start + len);
        self.vmas.insert(start, (start + len, id, true));
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.vmas.remove(&start);
        self.vacate(start, start + len);
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        match self.vmas.range(..=addr).next_back() {
            Some((&start, vma)) if addr < vma.0 => start,
            _ => 0,
        }
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for write in [false, true] {
            self.split(start);
            self.split(start + len);
            if let Some(vma) = self.vmas.get_mut(&start) {
                vma.2 = write;
            }
            self.merge(start);
            self.merge(start + len);
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        let end = start + len;
        self.split(start);
        self.split(end);
        while let Some((&at, &(to, ..))) = self.vmas.range(start..end).next() {
            self.vmas.remove(&at);
            self.vacate(at, to);
        }
        self.insert(start, len, id);
    }

    fn lowest_gap(&self, len: u64) -> u64 {
        self.free.range((len, 0)..).next().expect("room").1
    }
}

/// rangemap: equal neighbours merge, and free ranges are found by walking the gaps.
#[derive(Debug, Default)]
pub struct RangeMap(rangemap::RangeMap<u64, (u32, bool)>);

impl Peer for RangeMap {
    const NAME: &'static str = "rangemap";

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        self.0.insert(start..start + len, (id, true));
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.0.remove(start..start + len);
    }

    #[inline]
    fn find(&self, addr: u64) -> u64 {
        self.0.get_key_value(&addr).map_or(0, |(range, _)| range.start)
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for write in [false, true] {
            let (id, _) = *self.0.get(&start).expect("mapped");
            self.0.insert(start..start + len, (id, write));
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        self.0.insert(start..start + len, (id, true));
    }

    fn lowest_gap(&self, len: u64) -> u64 {
        self.0.gaps(&(0..LIMIT)).find(|gap| gap.end - gap.start >= len).expect("room").start
    }
}

/// `memory_set` 0.4.1 with a backend that does nothing. It never merges, so protecting a page
/// leaves three VMAs for ever.
#[expect(missing_debug_implementations, reason = "memory_set's own type has none")]
pub struct MemorySet(memory_set::MemorySet<Nothing>);

impl Default for MemorySet {
    fn default() -> Self {
        Self(memory_set::MemorySet::new())
    }
}

/// A backend without page tables.
#[derive(Clone)]
struct Nothing;

impl MappingBackend for Nothing {
    type Addr = VirtAddr;
    type Flags = (u32, bool);
    type PageTable = ();

    fn map(&self, _: VirtAddr, _: usize, _: (u32, bool), (): &mut ()) -> bool {
        true
    }

    fn unmap(&self, _: VirtAddr, _: usize, (): &mut ()) -> bool {
        true
    }

    fn protect(&self, _: VirtAddr, _: usize, _: (u32, bool), (): &mut ()) -> bool {
        true
    }
}

fn addr(addr: u64) -> VirtAddr {
    VirtAddr::from(addr as usize)
}

impl Peer for MemorySet {
    const NAME: &'static str = "memory_set";

    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, start: u64, len: u64, id: u32) {
        let vma = MemoryArea::new(addr(start), len as usize, (id, true), Nothing);
        self.0.map(vma, &mut (), false).expect("free");
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.0.unmap(addr(start), len as usize, &mut ()).expect("mapped");
    }

    #[inline]
    fn find(&self, at: u64) -> u64 {
        self.0.find(addr(at)).map_or(0, |vma| vma.start().as_usize() as u64)
    }

    fn protect_and_back(&mut self, start: u64, len: u64) {
        for write in [false, true] {
            let change = |(id, _)| Some((id, write));
            self.0.protect(addr(start), len as usize, change, &mut ()).expect("mapped");
        }
    }

    fn overwrite(&mut self, start: u64, len: u64, id: u32) {
        let vma = MemoryArea::new(addr(start), len as usize, (id, true), Nothing);
        self.0.map(vma, &mut (), true).expect("in the space");
    }

    fn lowest_gap(&self, len: u64) -> u64 {
        let limit = AddrRange::from_start_size(addr(0), LIMIT as usize);
        let found = self.0.find_free_area(addr(0), len as usize, limit, PAGE as usize);
        found.expect("room").as_usize() as u64
    }
}
