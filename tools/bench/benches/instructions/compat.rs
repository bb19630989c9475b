//! Operations of `compat::Mappings`.

use kvma::compat::{Mappings, Origin};
use kvma::{Attrs, BoxAlloc, NoHooks, PageSize, Prot, VmaNode};
use kvma_bench::{LIMIT, PAGE};

use crate::operation::{LEN, Table, VMAS, bytes, heap, op, starts};

/// Adds the operations.
pub fn add(table: &mut Table) {
    let churn = op(mappings, mappings_len, || (0..VMAS).collect(), churn);
    table.add("Mappings: unmap + map_any", 2_000, churn);
    table.add("Mappings: unmap + map_at", 2_000, op(mappings, mappings_len, starts, remap));
    let protect = op(mappings, mappings_len, starts, protect);
    table.add("Mappings: protect a page and back", 2_000, protect);
    table.add("Mappings: query_page", 10_000, op(mappings, mappings_len, bytes, query));
}

/// The space, and the addresses of its mappings.
struct Space {
    mappings: Mappings<(), &'static BoxAlloc<VmaNode<Origin>>>,
    starts: Vec<u64>,
}

fn mappings() -> Space {
    let mut mappings = Mappings::new(0..=LIMIT - 1, PageSize::SIZE_4K, heap()).unwrap();
    for start in starts() {
        mappings.map_at(start, LEN, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap();
    }
    Space { mappings, starts: starts() }
}

fn mappings_len(space: &Space) -> usize {
    space.mappings.vm_map().len()
}

fn churn(space: &mut Space, index: usize) -> u64 {
    let Space { mappings, starts } = space;
    mappings.unmap(starts[index], LEN, &mut NoHooks).unwrap();
    let start = mappings.map_any(None, LEN, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap();
    starts[index] = start;
    start
}

fn remap(space: &mut Space, start: u64) -> u64 {
    space.mappings.unmap(start, LEN, &mut NoHooks).unwrap();
    space.mappings.map_at(start, LEN, Attrs::new(Prot::RW), (), &mut NoHooks).unwrap()
}

fn protect(space: &mut Space, start: u64) -> u64 {
    for prot in [Prot::READ, Prot::RW] {
        space.mappings.protect(start + PAGE, PAGE, prot, &mut NoHooks).unwrap();
    }
    0
}

fn query(space: &mut Space, addr: u64) -> u64 {
    let info = space.mappings.query_page(addr).unwrap();
    info.range().start() + info.mapping().start()
}
