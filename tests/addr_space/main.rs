//! `AddrSpace`: a map behind a lock, as one thread sees it and as several do.

mod batches;
mod claims;
mod dropping;
mod flushes;
mod hint_table;
mod invalidation;
mod locks;
mod lookup;
mod lookup_hints;
mod operations;
mod page_table_inside;
mod pinned;
mod read_side;
mod readme;
mod reentry;
mod threads;
mod two_spaces;
mod walks;

use std::sync::Arc;

use kvma::{
    AddrSpace, Attrs, BoxAlloc, MapRequest, PageSize, Placement, Prot, RawLock, VmMap, VmaData,
    VmaNode,
};

type Alloc<V = ()> = Arc<BoxAlloc<VmaNode<V>>>;
type Space<V = ()> = AddrSpace<VmMap<V, Alloc<V>>>;

const PAGE: u64 = 0x1000;

/// Returns an empty map of 4 GiB, which begins at page 1.
fn new_map<V: VmaData>(alloc: &Alloc<V>) -> VmMap<V, Alloc<V>> {
    VmMap::new(PAGE..=0x1_0000_0fff, PageSize::SIZE_4K, alloc.clone()).unwrap()
}

/// Returns such a map behind the default lock.
fn new_space<V: VmaData>(alloc: &Alloc<V>) -> Space<V> {
    AddrSpace::new(new_map(alloc))
}

/// Requests `pages` pages at page number `page`.
fn fixed(page: u64, pages: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, Attrs::new(prot))
}

/// Returns the first page and the pages of each VMA, after a check of the whole map.
fn vmas<V: VmaData, L: RawLock>(space: &AddrSpace<VmMap<V, Alloc<V>>, L>) -> Vec<(u64, u64)> {
    space.inspect(|map| {
        map.check().unwrap();
        map.iter().map(|vma| (vma.start() / PAGE, vma.page_count())).collect()
    })
}
