//! What page tables are for, shown one by one: on kvma's core alone, with plain VMAs in an address
//! space of their own; then with processes, by calls of the Linux layer.

mod access;
mod family;
mod fork;
mod fork_races;
mod guards;
mod noting;
mod numbers;
mod populate;
mod program;
mod races;
mod stack;
mod stress;

use crate::{
    frames::{self, Use},
    nodes::Nodes,
    page_cache,
    pages::Pages,
    paging::PAGE_SIZE,
    println,
    space::Space,
};
use kvma::{
    Attrs, Error, MapRequest, Merge, PageSize, Placement, Prot, Search, Source, Update, VmMap,
    VmaNode, linux::Layout,
};
use program::Program;

/// Plain VMAs: no data of the owner's.
type VMAs = VmMap<(), &'static Nodes<VmaNode>>;

static NODES: Nodes<VmaNode> = Nodes::new();

/// The space that scenarios are about.
struct Ground<'s>(&'s Space<VmaMap>);

type Owed<'h, H> = Update<'h, (), &'static Nodes<VmaNode>, H>;

impl Ground<'_> {
    fn map(&self, pages: u64, attrs: Attrs) -> u64 {
        let place = Placement::Any(Search::new());
        expect(
            self.0.change(|map, up| map.map(MapRequest::new(place, pages * PAGE_SIZE, attrs), up)),
        )
    }

    fn map_at(&self, address: u64, pages: u64, attrs: Attrs) {
        expect(self.0.change(|map, up| put(map, address, pages, attrs, up)));
    }

    fn unmap(&self, address: u64, pages: u64) {
        expect(self.0.change(|map, up| map.unmap(address, pages * PAGE_SIZE, up)));
    }

    fn protect(&self, address: u64, pages: u64, prot: Prot) {
        expect(self.0.change(|map, up| map.protect(address, pages * PAGE_SIZE, prot, up)));
    }

    fn relocate(&self, from: u64, pages: u64, to: u64) {
        expect(self.0.change(|map, up| {
            map.relocate(from, pages * PAGE_SIZE, to, Source::Unmap, Merge::Both, up)
        }));
    }

    /// So many free pages.
    fn free_place(&self, pages: u64) -> u64 {
        let at = self.map(pages, Attrs::new(Prot::NONE));
        self.unmap(at, pages);
        at
    }
}

/// Maps at an address, whatever is mapped there.
fn put<H: kvma::Hooks<()>>(
    map: &mut VmaMap,
    address: u64,
    pages: u64,
    attrs: Attrs,
    up: &mut Owed<'_, H>,
) -> Result<u64, Error> {
    map.map(MapRequest::new(Placement::Fixed(address), pages * PAGE_SIZE, attrs), up)
}

fn expect<R>(result: Result<R, Error>) -> R {
    result.unwrap_or_else(|error| panic!("kvma refused: {error}"))
}

/// One statement about the kernel, and whether it holds.
fn prove(statement: &str, holds: bool) {
    assert!(holds, "this does not hold: {statement}");
    println!("  proved: {statement}");
}

/// Runs all scenarios in address spaces with these pages, and gives the pages back empty.
pub fn run(pages: Pages) -> Pages {
    let frames_before = user_frames();
    let pages = with_processes(core_alone(pages));
    page_cache::drop_all();
    prove(
        "torn down, every frame, page table and node is back",
        user_frames() == frames_before && NODES.in_use() == 0 && program::NODES.in_use() == 0,
    );
    pages
}

fn core_alone(pages: Pages) -> Pages {
    println!("scenarios, on kvma's core alone:");
    let map = expect(VmMap::new(PAGE_SIZE, (1 << 47) / PAGE_SIZE - 2, PageSize::SIZE_4K, &NODES));
    let space = Space::new(map, pages);
    space.enter(|| {
        let ground = Ground(&space);
        access::run(&ground);
        println!("scenarios with two processors:");
        races::run(&ground);
        stress::run(&ground);
        expect(space.change(|map, up| map.clear(up)));
    });
    space.into_pages()
}

fn with_processes(pages: Pages) -> Pages {
    println!("scenarios with processes:");
    let mm = expect(program::VmaMap::new(Layout::x86_64(8 << 20), &program::NODES));
    let first = Program(Space::new(mm, pages));
    first.0.enter(|| {
        noting::run(&first);
        fork::run(&first);
        fork_races::run(&first);
        family::run(&first);
        stack::run(&first);
        guards::run(&first);
        populate::run(&first);
        expect(first.0.change(|mm, call| mm.clear(*mm.layout(), call)));
    });
    first.0.into_pages()
}

fn user_frames() -> usize {
    [Use::Private, Use::Shared, Use::Table].map(frames::in_use).iter().sum()
}
