//! The containers: each holds regions of guest-physical memory with the host's address of each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, LazyLock, Mutex};

use ax_memory_addr::{AddrRange, VirtAddr};
use ax_memory_set::{MappingBackend, MemoryArea, MemorySet};
use kvma::guest::{Guest, GuestNode, GuestSnapshot, Hint, HostBacking, SlotRequest};
use kvma::{AddrSpace, BoxAlloc, NoHooks, PageSize};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection,
};

use super::Region;

/// A container, as the workloads use it.
pub(crate) trait Peer {
    /// Its name, for tables.
    const NAME: &'static str;

    /// Returns one with these regions, which are sorted.
    fn new(regions: &[Region]) -> Self;

    /// Returns the host's address.
    fn translate(&mut self, gpa: u64) -> Option<u64>;

    /// Removes a region, and adds another one or the same.
    fn exchange(&mut self, gone: Region, new: Region);
}

type Unlocked = Guest<(), &'static BoxAlloc<GuestNode>>;
type Space = AddrSpace<Unlocked>;

fn request(region: Region) -> SlotRequest {
    SlotRequest::ram(region.gpa, region.len, HostBacking::Host { addr: region.host })
}

fn guest(regions: &[Region]) -> Unlocked {
    // As in a hypervisor: one allocator for all guests, for ever.
    static ALLOC: LazyLock<BoxAlloc<GuestNode>> = LazyLock::new(BoxAlloc::new);
    let mut guest = Guest::new(0..=(1 << 52) - 1, PageSize::SIZE_4K, &*ALLOC).expect("memory");
    for &region in regions {
        guest.add_slot(request(region), &mut NoHooks).expect("room");
    }
    guest
}

fn space(regions: &[Region]) -> Space {
    AddrSpace::new(guest(regions))
}

fn exchange(space: &Space, gone: Region, new: Region) {
    space.remove_range(gone.gpa, gone.len, &mut NoHooks).expect("there");
    space.add_slot(request(new), &mut NoHooks).expect("room");
}

/// Looks up without the lock.
pub(crate) struct Kvma(Space);

impl Peer for Kvma {
    const NAME: &'static str = "kvma";

    fn new(regions: &[Region]) -> Self {
        Self(space(regions))
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        self.0.translate(gpa)?.host()
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        exchange(&self.0, gone, new);
    }
}

/// A guest without a lock around it.
pub(crate) struct Mutable(Unlocked);

impl Peer for Mutable {
    const NAME: &'static str = "&mut kvma";

    fn new(regions: &[Region]) -> Self {
        Self(guest(regions))
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        self.0.translate(gpa)?.host()
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        self.0.remove_range(gone.gpa, gone.len, &mut NoHooks).expect("there");
        self.0.add_slot(request(new), &mut NoHooks).expect("room");
    }
}

/// Translates with what a virtual processor keeps.
pub(crate) struct Hinted(Space, Hint);

impl Peer for Hinted {
    const NAME: &'static str = "hint";

    fn new(regions: &[Region]) -> Self {
        Self(space(regions), Hint::new())
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        self.0.translate_with(gpa, &mut self.1)?.host()
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        exchange(&self.0, gone, new);
    }
}

/// A view that never changes.
pub(crate) struct Snapshot(GuestSnapshot);

impl Peer for Snapshot {
    const NAME: &'static str = "snapshot";

    fn new(regions: &[Region]) -> Self {
        Self(space(regions).snapshot().expect("memory"))
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        self.0.translate(gpa)?.host()
    }

    fn exchange(&mut self, _gone: Region, _new: Region) {}
}

/// A region of vm-memory's, without the memory.
pub(crate) struct Theirs(Region);

impl GuestMemoryRegion for Theirs {
    type B = ();

    #[inline]
    fn len(&self) -> u64 {
        self.0.len
    }

    #[inline]
    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.0.gpa)
    }

    fn bitmap(&self) {}
}

impl GuestMemoryRegionBytes for Theirs {}

/// rust-vmm's sorted vector of counted regions, which is cloned for each change.
pub(crate) struct VmMemory(GuestRegionCollection<Theirs>);

impl Peer for VmMemory {
    const NAME: &'static str = "vm-memory";

    fn new(regions: &[Region]) -> Self {
        let regions = regions.iter().copied().map(Theirs).collect();
        Self(GuestRegionCollection::from_regions(regions).expect("sorted"))
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        let region = self.0.find_region(GuestAddress(gpa))?;
        Some(region.0.host + (gpa - region.0.gpa))
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        let removed = self.0.remove_region(GuestAddress(gone.gpa), gone.len);
        let (without, mut region) = removed.expect("there");
        if new.gpa != gone.gpa {
            region = Arc::new(Theirs(new));
        }
        self.0 = without.insert_region(region).expect("room");
    }
}

/// A sorted vector with binary search.
pub(crate) struct Sorted(Vec<Region>);

impl Peer for Sorted {
    const NAME: &'static str = "sorted";

    fn new(regions: &[Region]) -> Self {
        Self(regions.to_vec())
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        let after = self.0.partition_point(|region| region.gpa <= gpa);
        let region = self.0.get(after.checked_sub(1)?)?;
        let ahead = gpa - region.gpa;
        (ahead < region.len).then_some(region.host + ahead)
    }

    fn exchange(&mut self, gone: Region, region: Region) {
        let at = self.0.binary_search_by_key(&gone.gpa, |region| region.gpa).expect("there");
        self.0.remove(at);
        let at = self.0.partition_point(|other| other.gpa < region.gpa);
        let is_free = self.0.get(at).is_none_or(|next| region.gpa + region.len <= next.gpa)
            && (at == 0 || self.0[at - 1].gpa + self.0[at - 1].len <= region.gpa);
        assert!(is_free);
        self.0.insert(at, region);
    }
}

/// A `BTreeMap` by the start, as hvisor keeps one.
pub(crate) struct BTree(BTreeMap<u64, Region>);

impl Peer for BTree {
    const NAME: &'static str = "BTreeMap";

    fn new(regions: &[Region]) -> Self {
        Self(regions.iter().map(|region| (region.gpa, *region)).collect())
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        let (_, region) = self.0.range(..=gpa).next_back()?;
        let ahead = gpa - region.gpa;
        (ahead < region.len).then_some(region.host + ahead)
    }

    fn exchange(&mut self, gone: Region, region: Region) {
        self.0.remove(&gone.gpa).expect("there");
        let last = region.gpa + region.len - 1;
        let before = self.0.range(..=last).next_back();
        assert!(before.is_none_or(|(_, before)| before.gpa + before.len <= region.gpa));
        self.0.insert(region.gpa, region);
    }
}

/// The least that does what a guest does: slots by address, by number and by the host's memory,
/// each kept from overlapping, behind a lock.
pub(crate) struct ThreeMaps(Mutex<Maps>);

#[derive(Default)]
struct Maps {
    by_gpa: BTreeMap<u64, (Region, u32)>,
    by_number: BTreeMap<u32, u64>,
    /// One layer: no two slots show the same memory.
    by_host: BTreeMap<u64, (u64, u32)>,
    free: BinaryHeap<Reverse<u32>>,
}

impl Maps {
    fn add(&mut self, region: Region) {
        let before = self.by_gpa.range(..region.gpa + region.len).next_back();
        assert!(before.is_none_or(|(_, (before, _))| before.gpa + before.len <= region.gpa));
        let shown = self.by_host.range(..region.host + region.len).next_back();
        assert!(shown.is_none_or(|(host, (len, _))| host + len <= region.host));
        let Reverse(number) = self.free.pop().unwrap_or(Reverse(self.by_number.len() as u32));
        self.by_gpa.insert(region.gpa, (region, number));
        self.by_number.insert(number, region.gpa);
        self.by_host.insert(region.host, (region.len, number));
    }

    fn remove(&mut self, gpa: u64) {
        let (region, number) = self.by_gpa.remove(&gpa).expect("there");
        self.by_number.remove(&number);
        self.by_host.remove(&region.host);
        self.free.push(Reverse(number));
    }
}

impl Peer for ThreeMaps {
    const NAME: &'static str = "3 BTreeMaps";

    fn new(regions: &[Region]) -> Self {
        let mut maps = Maps::default();
        regions.iter().for_each(|&region| maps.add(region));
        Self(Mutex::new(maps))
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        let maps = self.0.lock().expect("nobody panics");
        let (_, (region, _)) = maps.by_gpa.range(..=gpa).next_back()?;
        let ahead = gpa - region.gpa;
        (ahead < region.len).then_some(region.host + ahead)
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        self.0.lock().expect("nobody panics").remove(gone.gpa);
        self.0.lock().expect("nobody panics").add(new);
    }
}

/// A linear mapping, without a page table.
#[derive(Clone)]
pub(crate) struct Linear(u64);

impl MappingBackend for Linear {
    type Addr = VirtAddr;
    type Flags = u8;
    type PageTable = ();

    fn map(&self, _start: VirtAddr, _size: usize, _flags: u8, _table: &mut ()) -> bool {
        true
    }

    fn unmap(&self, _start: VirtAddr, _size: usize, _table: &mut ()) -> bool {
        true
    }

    fn protect(&self, _start: VirtAddr, _size: usize, _flags: u8, _table: &mut ()) -> bool {
        true
    }

    fn split(&mut self, _align_diff: usize) -> Option<Self> {
        Some(self.clone())
    }
}

/// The crate on which axaddrspace stands.
pub(crate) struct AxMemorySet(MemorySet<Linear>);

fn area(region: Region) -> MemoryArea<Linear> {
    let start = VirtAddr::from_usize(region.gpa as usize);
    let offset = region.host.wrapping_sub(region.gpa);
    MemoryArea::new(start, region.len as usize, 7, Linear(offset))
}

impl Peer for AxMemorySet {
    const NAME: &'static str = "ax-memory-set";

    fn new(regions: &[Region]) -> Self {
        let mut set = MemorySet::new();
        for &region in regions {
            set.map(area(region), &mut (), false).expect("room");
        }
        Self(set)
    }

    #[inline]
    fn translate(&mut self, gpa: u64) -> Option<u64> {
        let area = self.0.find(VirtAddr::from_usize(gpa as usize))?;
        Some(gpa.wrapping_add(area.backend().0))
    }

    fn exchange(&mut self, gone: Region, new: Region) {
        let start = VirtAddr::from_usize(gone.gpa as usize);
        let range = AddrRange::from_start_size(start, gone.len as usize);
        self.0.unmap(range.start, range.size(), &mut ()).expect("there");
        self.0.map(area(new), &mut (), false).expect("room");
    }
}
