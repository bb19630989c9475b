//! What page tables are for, shown one by one on kvma's core alone: plain areas in an address space of their own.

use crate::{
    contents::Origin,
    fault,
    frames::{self, Use},
    hooks::PageHooks,
    nodes::Nodes,
    pages::Pages,
    paging::PAGE_SIZE,
    println, probe,
    space::{self, Areas, PlainMap, Space},
};
use core::sync::atomic::Ordering::Relaxed;
use kvma::{
    AreaFlags, Attrs, Backing, Error, Merge, PageSize, Place, Prot, Request, Search, Source, Update, VmMap,
    VmaNode,
};

static NODES: Nodes<VmaNode> = Nodes::new();

type Owed<'h, 'p> = Update<'h, (), &'static Nodes<VmaNode>, PageHooks<'p>>;

/// One operation on the areas, with the hooks that keep page tables in step.
fn change<R>(operation: impl FnOnce(&mut PlainMap, &mut Owed<'_, '_>) -> Result<R, Error>) -> R {
    space::with(|space| {
        let Areas::Plain(map) = &mut space.areas else { panic!("not the space of the proofs") };
        let mut hooks = PageHooks::new(&mut space.pages);
        let mut update = map.update(&mut hooks);
        let result = operation(map, &mut update);
        update.finish();
        result.unwrap_or_else(|error| panic!("kvma refused: {error}"))
    })
}

fn map(pages: u64, attrs: Attrs) -> u64 {
    change(|map, up| map.map(Request::new(Place::Any(Search::new()), pages * PAGE_SIZE, attrs), up))
}

fn map_at(address: u64, pages: u64, attrs: Attrs) {
    change(|map, up| map.map(Request::new(Place::Fixed(address), pages * PAGE_SIZE, attrs), up));
}

fn unmap(address: u64, pages: u64) {
    change(|map, up| map.unmap(address, pages * PAGE_SIZE, up));
}

fn protect(address: u64, pages: u64, prot: Prot) {
    change(|map, up| map.protect(address, pages * PAGE_SIZE, prot, up));
}

fn relocate(from: u64, pages: u64, to: u64) {
    change(|map, up| map.relocate(from, pages * PAGE_SIZE, to, Source::Unmap, Merge::Both, up));
}

/// Faults served while `access` runs.
fn faults(access: impl FnOnce()) -> u64 {
    let before = fault::SERVED.load(Relaxed);
    access();
    fault::SERVED.load(Relaxed) - before
}

/// One statement about the kernel, and whether it holds.
fn prove(statement: &str, holds: bool) {
    assert!(holds, "this does not hold: {statement}");
    println!("  proved: {statement}");
}

/// Runs all proofs in an address space with these pages, and gives the pages back empty.
pub fn run(pages: Pages) -> Pages {
    println!("proofs, on kvma's core alone:");
    let frames_before = user_frames();
    let map = VmMap::new(PAGE_SIZE, (1 << 47) / PAGE_SIZE - 2, PageSize::SIZE_4K, &NODES);
    let map = map.unwrap_or_else(|error| panic!("no address space: {error}"));
    space::enter(Space { areas: Areas::Plain(map), pages });

    demand_and_reading_back();
    protection();
    guards_and_holes();
    moving();
    shared_objects();

    change(|map, up| map.clear(up));
    let Some(space) = space::leave() else { panic!("the space of the proofs is gone") };
    let Space { areas, mut pages } = space;
    drop(areas);
    pages.cache.drop_all();
    prove(
        "torn down, every frame, page table and node is back",
        user_frames() == frames_before && NODES.in_use() == 0,
    );
    pages
}

fn user_frames() -> usize {
    [Use::Private, Use::Shared, Use::Table].map(frames::in_use).iter().sum()
}

fn demand_and_reading_back() {
    let at = map(4, Attrs::new(Prot::RW));
    let mut value = None;
    let first = faults(|| value = probe::load(at));
    let second = faults(|| assert!(probe::store(at, 42)));
    prove(
        "the first access of a page faults and finds zeros, the second does not fault",
        (first, second) == (1, 0) && value == Some(0),
    );
    prove("what was written reads back", probe::load(at) == Some(42));
    unmap(at, 1);
    prove(
        "an unmapped page is refused",
        probe::load(at).is_none() && !probe::store(at, 1) && !probe::fetch(at),
    );
    prove("its neighbour is not", probe::store(at + PAGE_SIZE, 43));
    map_at(at, 1, Attrs::new(Prot::RW));
    let again = faults(|| value = probe::load(at));
    prove("mapped again, it faults again and holds zeros", again == 1 && value == Some(0));
    map_at(at, 4, Attrs::new(Prot::READ));
    prove("so does a page that is replaced by mapping over it", probe::load(at + PAGE_SIZE) == Some(0));
    unmap(at, 4);
}

fn protection() {
    let at = map(2, Attrs::new(Prot::RW));
    assert!(probe::store(at, 7));
    prove("a fetch from a no-execute page is refused", !probe::fetch(at));
    protect(at, 2, Prot::READ);
    prove("a write to a page that became read-only is refused, for the kernel too", !probe::store(at, 8));
    prove("and has changed nothing", probe::load(at) == Some(7));
    prove("a page that was never touched is just as read-only", !probe::store(at + PAGE_SIZE, 8));
    protect(at, 1, Prot::RX);
    prove("once executable, it is executed", probe::fetch(at) && !probe::store(at, 8));
    protect(at, 2, Prot::NONE);
    prove(
        "without any rights, every access is refused",
        probe::load(at).is_none() && !probe::store(at, 8) && !probe::fetch(at),
    );
    protect(at, 2, Prot::RW);
    prove("and the contents are still there afterwards", probe::load(at) == Some(7) && probe::store(at, 9));
    unmap(at, 2);
}

fn guards_and_holes() {
    let at = map(5, Attrs::new(Prot::RW));
    protect(at, 1, Prot::NONE);
    unmap(at + 2 * PAGE_SIZE, 1);
    prove("an access to a guard page is refused", probe::load(at).is_none() && !probe::store(at, 1));
    prove("an access to a hole between two areas is refused", !probe::store(at + 2 * PAGE_SIZE, 1));
    prove(
        "around guard and hole, accesses are made",
        [1, 3, 4].iter().all(|page| probe::store(at + page * PAGE_SIZE, *page)),
    );
    unmap(at, 5);
}

fn moving() {
    let from = map(3, Attrs::new(Prot::RW));
    let to = map(3, Attrs::new(Prot::RW));
    unmap(to, 3);
    assert!(probe::store(from, 1) && probe::store(from + 2 * PAGE_SIZE, 3));
    relocate(from, 3, to);
    let mut value = None;
    let untouched = faults(|| value = probe::load(to + PAGE_SIZE));
    prove(
        "moved pages take their contents along",
        probe::load(to) == Some(1) && probe::load(to + 2 * PAGE_SIZE) == Some(3),
    );
    prove("a page without contents faults at its new place", untouched == 1 && value == Some(0));
    prove("the old place is refused", probe::load(from).is_none() && !probe::store(from + 2 * PAGE_SIZE, 1));
    unmap(to, 3);
}

fn shared_objects() {
    let object = |flags: AreaFlags, offset| {
        let attrs = Attrs::new(Prot::RW);
        attrs.with_flags(attrs.flags() | flags).with_backing(Backing::Object { id: 1, offset })
    };
    let page = |page| Origin::Object { id: 1, page }.first_word();
    let private = map(4, object(AreaFlags::empty(), 16));
    unmap(private + PAGE_SIZE, 1);
    prove(
        "a file's pages keep their offsets when the area is cut",
        probe::load(private) == Some(page(16)) && probe::load(private + 2 * PAGE_SIZE) == Some(page(18)),
    );
    let one = map(2, object(AreaFlags::SHARED, 16));
    let other = map(1, object(AreaFlags::SHARED, 17));
    assert!(probe::store(one + PAGE_SIZE, 99));
    prove("what is written to a shared page shows wherever it is mapped", probe::load(other) == Some(99));
    prove("but not in private mappings", probe::store(private, 98) && probe::load(one) == Some(page(16)));
}
