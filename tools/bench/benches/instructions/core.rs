//! Operations of `VmMap` and `AddrSpace`.

use std::hint::black_box;

use kvma::hooks::Advice;
use kvma::pinned::{Shared, StaticDomain};
use kvma::vm_map::SourceRange;
use kvma::{
    AddrSpace, Attrs, BoxAlloc, Error, MapRequest, Merge, NoHooks, PageSize, Placement, Prot,
    VmMap, Vma, VmaNode, pinned_domain,
};
use kvma_bench::{Kvma, LIMIT, Load, PAGE, Workload};

use crate::operation::{FAR, LEN, Run, Table, bytes, heap, op, starts};

/// Adds the operations.
pub fn add(table: &mut Table) {
    for count in [1_000, 10_000] {
        for load in Load::ALL {
            let setup = move || -> Run {
                let mut work = Workload::<Kvma>::new(load, count);
                Box::new(move |times| work.run(times))
            };
            table.add(format!("{count} VMAs: {}", load.name()), 10_000, Box::new(setup));
        }
    }

    table.add("AddrSpace: lookup", 10_000, op(space, space_len, bytes, space_lookup));
    let fault = op(space, space_len, bytes, space_fault);
    table.add("AddrSpace: try_lookup + still_valid", 10_000, fault);
    let pinned = op(pinned_space, pinned_space_len, bytes, pinned_lookup);
    table.add("AddrSpace: enter + lookup_pinned", 10_000, pinned);
    table.add("AddrSpace: unmap + map", 2_000, op(space, space_len, starts, space_remap));
    let protect = op(space, space_len, starts, space_protect);
    table.add("AddrSpace: protect a page and back", 2_000, protect);

    table.add("VmMap: relocate there and back", 2_000, op(map, map_len, starts, map_relocate));
    table.add("VmMap: fork", 10, op(map, map_len, || vec![()], map_fork));
    let clear = op(with_saved, saved_len, || vec![()], clear_and_restore);
    table.add("VmMap: clear + restore", 10, clear);
    let protect = op(with_saved, saved_len, || vec![()], protect_and_restore);
    table.add("VmMap: update_attrs of all + restore", 10, protect);
    let split = op(with_saved, saved_len, || vec![()], split_and_restore);
    table.add("VmMap: unmap a page of each + restore", 10, split);
    table.add("VmMap: split_at + merge_at", 2_000, op(map, map_len, starts, map_split));
    let update = op(map, map_len, starts, map_update);
    table.add("VmMap: update_attrs of a page and back", 2_000, update);
    table.add("VmMap: advise", 5_000, op(map, map_len, starts, map_advise));
}

type Map = VmMap<(), &'static BoxAlloc<VmaNode>>;

/// Returns attributes that are different for each VMA, so that none merge.
fn attrs(start: u64) -> Attrs {
    Attrs::new(Prot::RW).with_user_bits(start)
}

fn fixed(start: u64) -> MapRequest {
    MapRequest::new(Placement::FixedNoReplace(start), LEN, attrs(start))
}

fn map() -> Map {
    let mut map = Map::new(0..=LIMIT - 1, PageSize::SIZE_4K, heap()).unwrap();
    for start in starts() {
        map.map(fixed(start), &mut NoHooks).unwrap();
    }
    map
}

fn map_len(map: &Map) -> usize {
    map.len()
}

fn map_relocate(map: &mut Map, start: u64) -> u64 {
    for (from, to) in [(start, FAR), (FAR, start)] {
        map.relocate(from, LEN, to, SourceRange::Unmap, Merge::Both, &mut NoHooks).unwrap();
    }
    0
}

/// Includes dropping the copy.
fn map_fork(map: &mut Map, (): ()) -> u64 {
    let child = map.fork(*map.alloc(), |vma| Ok::<_, Error>(Some((vma.attrs(), ())))).unwrap();
    assert_eq!(child.len(), map.len());
    child.mapped_bytes()
}

/// A map, and a copy of it to go back to.
struct WithSaved {
    map: Map,
    saved: Map,
    starts: Vec<u64>,
}

fn with_saved() -> WithSaved {
    let map = map();
    let saved = map.fork(*map.alloc(), |vma| Ok::<_, Error>(Some((vma.attrs(), ())))).unwrap();
    let mut starts = starts();
    starts.sort_unstable();
    WithSaved { map, saved, starts }
}

fn saved_len(both: &WithSaved) -> usize {
    both.map.len()
}

fn restore(both: &mut WithSaved) -> u64 {
    both.map.restore(&both.saved, |_, _| true, &mut NoHooks).unwrap();
    both.map.mapped_bytes()
}

fn clear_and_restore(both: &mut WithSaved, (): ()) -> u64 {
    both.map.clear(&mut NoHooks).unwrap();
    restore(both)
}

fn protect_and_restore(both: &mut WithSaved, (): ()) -> u64 {
    let read_only = |vma: &Vma<'_, ()>| vma.attrs().with_prot(Prot::READ);
    let (start, end) = (both.starts[0], both.starts[both.starts.len() - 1] + LEN);
    both.map.update_attrs(start, end - start, read_only, &mut NoHooks).unwrap();
    restore(both)
}

fn split_and_restore(both: &mut WithSaved, (): ()) -> u64 {
    for start in &both.starts {
        both.map.unmap(start + PAGE, PAGE, &mut NoHooks).unwrap();
    }
    restore(both)
}

fn map_split(map: &mut Map, start: u64) -> u64 {
    map.split_at(start + PAGE, &mut NoHooks).unwrap();
    map.merge_at(start + PAGE, &mut NoHooks).unwrap();
    0
}

fn map_update(map: &mut Map, start: u64) -> u64 {
    for bits in [1, start] {
        let new = |vma: &Vma<'_, ()>| vma.attrs().with_user_bits(bits);
        map.update_attrs(start + PAGE, PAGE, new, &mut NoHooks).unwrap();
    }
    0
}

fn map_advise(map: &mut Map, start: u64) -> u64 {
    map.advise(start, LEN, Advice::DontNeed, &mut NoHooks).unwrap();
    0
}

type Space = AddrSpace<Map>;

fn space() -> Space {
    Space::new(map())
}

fn space_len(space: &Space) -> usize {
    space.inspect(VmMap::len)
}

fn space_lookup(space: &mut Space, addr: u64) -> u64 {
    let vma = space.lookup(addr).unwrap();
    u64::from(vma.prot().contains(Prot::WRITE)) + vma.attrs().user_bits()
}

fn space_fault(space: &mut Space, addr: u64) -> u64 {
    let vma = space.try_lookup(addr).unwrap().unwrap();
    assert!(space.still_valid(black_box(vma.token())));
    vma.attrs().user_bits()
}

fn space_remap(space: &mut Space, start: u64) -> u64 {
    space.unmap(start, LEN, &mut NoHooks).unwrap();
    space.map(fixed(start), &mut NoHooks).unwrap()
}

fn space_protect(space: &mut Space, start: u64) -> u64 {
    for prot in [Prot::READ, Prot::RW] {
        space.protect(start + PAGE, PAGE, prot, &mut NoHooks).unwrap();
    }
    0
}

pinned_domain! {
    struct Objects;
}

type PinnedData = Shared<u64, Objects>;
type PinnedSpace = AddrSpace<VmMap<PinnedData, &'static BoxAlloc<VmaNode<PinnedData>>>>;

/// A space in which each VMA has an object of its own.
fn pinned_space() -> PinnedSpace {
    let space = AddrSpace::new(VmMap::new(0..=LIMIT - 1, PageSize::SIZE_4K, heap()).unwrap());
    for start in starts() {
        space.map(fixed(start).with_data(Shared::new(start)), &mut NoHooks).unwrap();
    }
    space
}

fn pinned_space_len(space: &PinnedSpace) -> usize {
    space.inspect(VmMap::len)
}

fn pinned_lookup(space: &mut PinnedSpace, addr: u64) -> u64 {
    let guard = Objects::enter_on(0);
    let (vma, object) = space.lookup_pinned(addr, &guard).unwrap();
    vma.attrs().user_bits() + *object
}
