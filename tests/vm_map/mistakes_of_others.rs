//! Mistakes that other crates and kernels have made, each as a test. The comments name who made it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use kvma::*;
use kvma_model::Faulty;
use kvma_test_support::{Log, Refuse, Refused};

const PAGE: u64 = 4096;
const BASE: u64 = 0x10_0000;
const END: u64 = BASE + 256 * PAGE;

type Map<V = ()> = VmMap<V, Arc<BoxAlloc<VmaNode<V>>>>;

fn new_map<V: VmaData>() -> Map<V> {
    VmMap::new(BASE..=END - 1, PageSize::SIZE_4K, Arc::new(BoxAlloc::new())).unwrap()
}

const fn page(index: u64) -> u64 {
    BASE + index * PAGE
}

const RW: Attrs = Attrs::new(Prot::RW);

/// Attributes of a read-only mapping of a file from page `page` on.
fn file(page: u64) -> Attrs {
    let offset = page.wrapping_mul(PAGE);
    Attrs::new(Prot::READ).with_backing(Backing::Object { id: 1, offset })
}

fn put(map: &mut Map, at: u64, pages: u64, attrs: Attrs) {
    let request = MapRequest::new(Placement::Fixed(page(at)), pages * PAGE, attrs);
    assert_eq!(map.map(request, &mut NoHooks), Ok(page(at)));
    map.check().unwrap();
}

fn unmap(map: &mut Map, at: u64, pages: u64) -> Result<u64, Error> {
    let result = map.unmap(page(at), pages * PAGE, &mut NoHooks);
    map.check().unwrap();
    result
}

fn protect(map: &mut Map, at: u64, pages: u64, prot: Prot) -> Result<(), Error> {
    let result = map.protect(page(at), pages * PAGE, prot, &mut NoHooks);
    map.check().unwrap();
    result
}

/// (first page, pages, attributes) of every VMA.
fn vmas<A: NodeAlloc<VmaNode> + Clone>(map: &VmMap<(), A>) -> Vec<(u64, u64, Attrs)> {
    map.iter().map(|vma| ((vma.start() - BASE) / PAGE, vma.page_count(), vma.attrs())).collect()
}

/// libmmap (C and C++), rangemap, Moss, Maestro, Redox: the part above a new gap keeps the offset
/// of the part below it.
#[test]
fn a_split_advances_the_file_offset() {
    let mut map = new_map();
    put(&mut map, 0, 8, file(0));
    unmap(&mut map, 2, 2).unwrap();
    assert_eq!(vmas(&map), [(0, 2, file(0)), (4, 4, file(4))]);
    protect(&mut map, 5, 1, Prot::RX).unwrap();
    assert_eq!(
        vmas(&map)[1..],
        [(4, 1, file(4)), (5, 1, file(5).with_prot(Prot::RX)), (6, 2, file(6))]
    );
    map.split_at(page(7), &mut NoHooks).unwrap();
    assert_eq!(vmas(&map)[4], (7, 1, file(7)));
}

/// A mistake of the projects above: neighbours whose offsets are contiguous stay two, and
/// neighbours with equal offsets become one.
#[test]
fn file_ranges_merge_only_if_their_offsets_are_contiguous() {
    let mut map = new_map();
    put(&mut map, 0, 2, file(10));
    put(&mut map, 2, 2, file(12));
    assert_eq!(vmas(&map), [(0, 4, file(10))]);
    put(&mut map, 4, 2, file(10));
    assert_eq!(vmas(&map), [(0, 4, file(10)), (4, 2, file(10))]);
    assert_eq!(map.can_merge_at(page(4)), Err(Error::BackingDiffers));
    // Downwards too, and where offsets wrap around.
    put(&mut map, 20, 2, file(0));
    put(&mut map, 18, 2, file(0u64.wrapping_sub(2)));
    assert_eq!(vmas(&map)[2], (18, 4, file(0u64.wrapping_sub(2))));
}

/// libmmap C++: one failed allocation in unmap loses the whole VMA.
#[test]
fn unmap_without_memory_loses_nothing() {
    let alloc = Faulty::new(Arc::new(BoxAlloc::<VmaNode>::new()));
    let mut map = VmMap::<(), _>::new(BASE..=END - 1, PageSize::SIZE_4K, alloc.clone()).unwrap();
    let request = MapRequest::new(Placement::Fixed(BASE), 10 * PAGE, RW);
    map.map(request, &mut NoHooks).unwrap();
    for successes in 0..2 {
        alloc.fail_after(successes);
        let result = map.unmap(page(4), PAGE, &mut NoHooks);
        assert_eq!(result, Err(Error::OutOfMemory));
        assert_eq!(vmas(&map), [(0, 10, RW)]);
        assert_eq!(alloc.inner().in_use(), 2);
    }
}

/// memory_set, Asterinas, Redox, rangemap: running out of memory ends the kernel.
#[test]
fn running_out_of_memory_is_an_error() {
    let pool = FixedPool::<VmaNode, 2>::new();
    let mut map = VmMap::<(), _>::new(BASE..=END - 1, PageSize::SIZE_4K, &pool).unwrap();
    let any = MapRequest::new(Placement::Any(Search::new()), PAGE, RW).with_merge(Merge::Never);
    assert_eq!(map.map(any, &mut NoHooks), Ok(BASE));
    assert_eq!(map.map(any, &mut NoHooks), Err(Error::OutOfMemory));
    assert_eq!(map.split_at(page(1), &mut NoHooks), Ok(()));
    assert_eq!(fork(&map, &pool).err(), Some(Error::OutOfMemory));
}

/// Returns hooks that refuse the `prepare` after `after` others.
fn refusing(after: u64) -> Refuse<Log> {
    Refuse::after(after, Log::default())
}

/// Copies a map.
fn fork<A: NodeAlloc<VmaNode> + Clone>(
    map: &VmMap<(), A>,
    alloc: A,
) -> Result<VmMap<(), A>, Error> {
    map.fork(alloc, |vma| Ok(Some((vma.attrs(), ()))))
}

/// memory_set: a map that fails has already destroyed what it was to replace.
#[test]
fn a_failed_replace_keeps_the_old_vmas() {
    let mut map = new_map();
    put(&mut map, 0, 4, RW);
    put(&mut map, 4, 4, file(0));
    let before = vmas(&map);
    for after in 0..3 {
        let request = MapRequest::new(Placement::Fixed(page(2)), 4 * PAGE, Attrs::new(Prot::RX));
        let result = map.map(request, &mut refusing(after));
        assert_eq!(result, Err(HookError::Hook(Refused)));
        assert_eq!(vmas(&map), before);
    }
}

/// memory_set: a failed protect returns `Ok`. Moss: over two VMAs it fails and drops the first.
#[test]
fn a_failed_protect_is_an_error_and_keeps_all_vmas() {
    let mut map = new_map();
    put(&mut map, 0, 4, RW);
    put(&mut map, 4, 4, file(0));
    let before = vmas(&map);
    for after in 0..2 {
        let mut hooks = refusing(after);
        let result = map.protect(page(2), 4 * PAGE, Prot::RX, &mut hooks);
        assert_eq!(result, Err(HookError::Hook(Refused)));
        assert_eq!(hooks.inner.changes(), [""; 0]);
        assert_eq!(vmas(&map), before);
    }
    assert_eq!(protect(&mut map, 2, 4, Prot::RX), Ok(()));
    assert_eq!(map.len(), 4);
}

/// memory_set: a failed unmap panics.
#[test]
fn a_failed_unmap_is_an_error() {
    let mut map = new_map();
    put(&mut map, 0, 4, RW);
    let result = map.unmap(page(1), PAGE, &mut refusing(0));
    assert_eq!(result, Err(HookError::Hook(Refused)));
    assert_eq!(vmas(&map), [(0, 4, RW)]);
}

/// libmmap C++, memory_set: protecting a range with a gap returns `Ok`.
#[test]
fn protect_over_a_gap_fails_and_changes_nothing() {
    let mut map = new_map();
    put(&mut map, 0, 2, RW);
    put(&mut map, 3, 2, RW);
    let before = vmas(&map);
    for (at, pages) in [(0, 5), (2, 1), (1, 2), (2, 2), (4, 2), (10, 3)] {
        assert_eq!(protect(&mut map, at, pages, Prot::READ), Err(Error::NotMapped), "{at} {pages}");
        assert_eq!(vmas(&map), before);
    }
}

/// libmmap with AVL trees: unmapping a gap is an error. POSIX and Linux say that it is none.
#[test]
fn unmapping_a_gap_is_no_error() {
    let mut map = new_map();
    assert_eq!(unmap(&mut map, 0, 256), Ok(0));
    put(&mut map, 2, 2, RW);
    assert_eq!(unmap(&mut map, 0, 2), Ok(0));
    assert_eq!(unmap(&mut map, 1, 2), Ok(PAGE));
    assert_eq!(vmas(&map), [(3, 1, RW)]);
}

/// libmmap C++: a length is computed as end − start, which underflows to one that is accepted.
#[test]
fn addresses_beyond_the_space_are_refused() {
    let mut map = new_map();
    put(&mut map, 0, 4, RW);
    for (start, len) in [
        (END, PAGE),
        (END - PAGE, 2 * PAGE),
        (BASE - PAGE, PAGE),
        (BASE - PAGE, 2 * PAGE),
        (page(2), 0u64.wrapping_sub(PAGE)),
        (u64::MAX - PAGE + 1, PAGE),
        (u64::MAX - PAGE + 1, 2 * PAGE),
    ] {
        let out = Some(Error::OutOfRange);
        let fixed = MapRequest::new(Placement::Fixed(start), len, RW);
        assert_eq!(map.map(fixed, &mut NoHooks).err(), out);
        assert_eq!(map.unmap(start, len, &mut NoHooks).err(), out);
        assert_eq!(map.protect(start, len, Prot::READ, &mut NoHooks).err(), out);
    }
    assert_eq!(vmas(&map), [(0, 4, RW)]);
}

/// libmmap with AVL trees: a map of length zero succeeds and corrupts the tree.
#[test]
fn a_length_of_zero_is_refused() {
    let mut map = new_map();
    put(&mut map, 0, 4, RW);
    for place in [
        Placement::Fixed(page(2)),
        Placement::FixedNoReplace(page(8)),
        Placement::Any(Search::new()),
    ] {
        let result = map.map(MapRequest::new(place, 0, RW), &mut NoHooks);
        assert_eq!(result, Err(Error::ZeroLength));
    }
    map.check().unwrap();
    assert_eq!(vmas(&map), [(0, 4, RW)]);
}

/// Many: a length near 2^64 is rounded up to whole pages, wraps to 0 and succeeds.
#[test]
fn a_length_near_2_to_64_is_refused() {
    let mut map = new_map();
    for len in [u64::MAX, u64::MAX - PAGE + 1, u64::MAX - PAGE + 2, 1 << 63] {
        for place in
            [Placement::Fixed(BASE), Placement::FixedNoReplace(BASE), Placement::Any(Search::new())]
        {
            let result = map.map(MapRequest::new(place, len, RW), &mut NoHooks);
            let wanted = [Error::Unaligned, Error::OutOfRange, Error::NoSpace];
            assert!(result.is_err_and(|error| wanted.contains(&error)), "{len:#x} {place:?}");
        }
    }
    assert!(map.is_empty());
}

/// memory_set 0.4.1: the free range that is found lies past the limit.
#[test]
fn a_found_gap_lies_within_the_window() {
    let mut map = new_map();
    put(&mut map, 0, 10, RW);
    put(&mut map, 12, 10, RW);
    let search = Search::new().window(page(4), page(11));
    assert_eq!(map.find_gap(PAGE, &search), Ok(page(10)));
    assert_eq!(
        map.find_gap(2 * PAGE, &search),
        Err(Error::NoSpace),
        "only a part of page 11 lies in it"
    );
    let window = search.window(page(4), page(12) - 1);
    assert_eq!(map.find_gap(2 * PAGE, &window), Ok(page(10)));
    assert_eq!(map.find_gap(3 * PAGE, &window), Err(Error::NoSpace));
    assert_eq!(map.find_gap(2 * PAGE, &window.top_down()), Ok(page(10)));
}

/// memory_set 0.4.1: with a hint above all gaps, none is found.
#[test]
fn a_gap_below_the_hint_is_found() {
    let mut map = new_map();
    put(&mut map, 8, 248, RW);
    for search in [Search::new(), Search::new().top_down()] {
        assert_eq!(map.find_gap(8 * PAGE, &search.hint(page(100))), Ok(page(0)));
        assert_eq!(map.find_gap(8 * PAGE, &search.hint(page(255))), Ok(page(0)));
        assert_eq!(map.find_gap(9 * PAGE, &search.hint(page(100))), Err(Error::NoSpace));
    }
}

/// libmmap with AVL trees: callbacks get page numbers, and the new state instead of the old one,
/// and hear nothing when the middle of a VMA is replaced.
#[test]
fn hooks_hear_bytes_and_old_states_and_every_replacement() {
    /// A call of a hook: its name, first byte, length in bytes, attributes, attributes before.
    type Heard = (&'static str, u64, u64, Attrs, Attrs);

    fn hear(event: Event<'_, ()>) -> Heard {
        let (what, old) = match event {
            Event::Map(piece) => ("map", piece.attrs()),
            Event::Unmap(piece) => ("unmap", piece.attrs()),
            Event::Protect { old, .. } => ("protect", old),
            Event::Relocate { piece, .. } => ("relocate", piece.attrs()),
        };
        let piece = event.piece();
        (what, piece.range().start(), piece.range().len().unwrap(), piece.attrs(), old)
    }

    let mut map = new_map();
    put(&mut map, 0, 8, file(0));
    let mut heard = Vec::new();
    let mut hooks = on_event(|event| heard.push(hear(event)));
    let request = MapRequest::new(Placement::Fixed(page(3)), 2 * PAGE, RW);
    map.map(request, &mut hooks).unwrap();
    map.protect(page(4), 2 * PAGE, Prot::NONE, &mut hooks).unwrap();
    let none = file(5).with_prot(Prot::NONE);
    assert_eq!(
        heard,
        [
            ("unmap", page(3), 2 * PAGE, file(3), file(3)),
            ("map", page(3), 2 * PAGE, RW, RW),
            ("protect", page(4), PAGE, RW.with_prot(Prot::NONE), RW),
            ("protect", page(5), PAGE, none, file(5)),
        ]
    );
}

/// The frames of a VMA, which are freed when they are dropped.
struct Frames(Rc<Cell<&'static str>>);

impl VmaData for Frames {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        Frames(self.0.clone())
    }

    fn can_merge(&self, _: VmRange, _: &Self, _: VmRange) -> bool {
        false
    }

    fn fork(&self, _: VmRange) -> Self {
        Frames(self.0.clone())
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        assert_eq!(self.0.get(), "flushed", "freed before the flush has ended");
    }
}

/// Notes how far the flush has got.
struct Flush(Rc<Cell<&'static str>>);

impl Hooks<Frames> for Flush {
    type Error = Error;

    fn on_unmap(&mut self, _: &Piece<'_, Frames>) {
        self.0.set("stale");
    }

    fn flush_begin(&mut self) {
        assert_eq!(self.0.replace("flushing"), "stale", "flushed before the page tables changed");
    }

    fn flush_wait(&mut self) {
        assert_eq!(self.0.replace("flushed"), "flushing");
    }
}

/// Several kernels: frames are freed and used again while another processor's TLB still has them.
#[test]
fn what_was_unmapped_is_dropped_after_the_flush() {
    let state = Rc::new(Cell::new("flushed"));
    let mut map: Map<Frames> = new_map();
    let mut hooks = Flush(state.clone());
    let mut place = |at: u64, pages: u64| {
        let request = MapRequest::new(Placement::Fixed(page(at)), pages * PAGE, RW);
        map.map(request.with_data(Frames(state.clone())), &mut hooks).unwrap();
    };
    place(0, 10);
    place(4, 2);
    place(3, 5);
    assert_eq!(state.get(), "flushed");
    let mut update = map.update(&mut hooks);
    assert_eq!(map.unmap(page(1), PAGE, &mut update), Ok(PAGE));
    assert_eq!(map.unmap(page(3), 7 * PAGE, &mut update), Ok(7 * PAGE));
    assert_eq!((state.get(), update.removed()), ("flushing", 3));
    update.finish();
    assert_eq!(state.get(), "flushed");
    map.clear(&mut hooks).unwrap();
}

/// memory_set: protecting a page, and then back, leaves three VMAs for good.
#[test]
fn protect_and_revert_leaves_one_vma() {
    let mut map = new_map();
    put(&mut map, 0, 9, file(0));
    for at in 0..9 {
        protect(&mut map, at, 1, Prot::NONE).unwrap();
        assert!(map.len() > 1);
        protect(&mut map, at, 1, Prot::READ).unwrap();
        assert_eq!(vmas(&map), [(0, 9, file(0))]);
    }
}

/// Asterinas: mprotect panics because VMAs merge while it walks over them.
#[test]
fn protect_over_vmas_that_merge_as_it_goes() {
    let mut map = new_map();
    for at in 0..20 {
        put(&mut map, at, 1, if at % 2 == 0 { RW } else { Attrs::new(Prot::READ) });
    }
    assert_eq!(map.len(), 20);
    protect(&mut map, 3, 14, Prot::READ).unwrap();
    // 0, 1, 2, all from 3 to 17, 18, 19.
    assert_eq!(map.len(), 6);
    protect(&mut map, 0, 20, Prot::NONE).unwrap();
    assert_eq!(vmas(&map), [(0, 20, Attrs::new(Prot::NONE))]);
}

/// Our own, found by the model: a VMA that changed to what its neighbour was before it changed too
/// was merged with that neighbour, which was then passed over.
#[test]
fn neighbours_that_swap_attributes_both_change() {
    let mut map = new_map();
    put(&mut map, 0, 2, RW);
    put(&mut map, 2, 2, Attrs::new(Prot::READ));
    let flip = |vma: &Vma<'_, ()>| vma.attrs().with_prot(vma.prot() ^ Prot::WRITE);
    map.update_attrs(BASE, 4 * PAGE, flip, &mut NoHooks).unwrap();
    assert_eq!(vmas(&map), [(0, 2, Attrs::new(Prot::READ)), (2, 2, RW)]);
}

/// Most Rust kernels: arithmetic on addresses from user space overflows and panics.
#[test]
fn the_last_page_of_64_bits_can_be_mapped() {
    let top = 0u64.wrapping_sub(16 * PAGE);
    let mut map: Map = VmMap::new(top..=u64::MAX, PageSize::SIZE_4K, Arc::default()).unwrap();
    let last = u64::MAX - PAGE + 1;
    let request = MapRequest::new(Placement::Any(Search::new().top_down()), PAGE, RW);
    assert_eq!(map.map(request, &mut NoHooks), Ok(last));
    let vma = map.find(u64::MAX).unwrap();
    assert_eq!((vma.start(), vma.last(), vma.range().end()), (last, u64::MAX, None));
    assert_eq!(map.protect(last, PAGE, Prot::READ, &mut NoHooks), Ok(()));
    assert_eq!(map.unmap(top, 16 * PAGE, &mut NoHooks), Ok(PAGE));
    assert_eq!(map.gaps(0, u64::MAX).next().unwrap().page_count(), 16);
}

/// k23: a pointer to the VMA of the last fault is kept, and stays when that VMA goes.
#[test]
fn lookups_after_unmap_find_nothing() {
    let space = AddrSpace::new(new_map::<()>());
    let request = MapRequest::new(Placement::Fixed(BASE), 4 * PAGE, RW);
    space.map(request, &mut NoHooks).unwrap();
    let seen = space.lookup(page(2)).unwrap();
    assert!(space.still_valid(seen.token()));
    space.unmap(page(2), PAGE, &mut NoHooks).unwrap();
    assert!(!space.still_valid(seen.token()));
    assert!(space.lookup(page(2)).is_none());
    assert!(space.lookup(page(1)).is_some() && space.lookup(page(3)).is_some());
}

/// libmmap C++: going back to a marked state leaves protections as they are, and brings back
/// nothing that was unmapped.
#[test]
fn restoring_brings_back_what_was_protected_and_what_was_unmapped() {
    let mut map = new_map();
    put(&mut map, 0, 8, file(0));
    put(&mut map, 20, 4, RW);
    let marked = fork(&map, map.alloc().clone()).unwrap();
    let before = vmas(&map);
    protect(&mut map, 1, 2, Prot::NONE).unwrap();
    unmap(&mut map, 5, 17).unwrap();
    put(&mut map, 30, 3, RW);
    map.restore(&marked, |_, _| true, &mut NoHooks).unwrap();
    map.check().unwrap();
    assert_eq!(vmas(&map), before);
}

/// Our own, found by the model: a VMA that never merges came back from a restore in two parts.
#[test]
fn restoring_brings_back_whole_even_a_vma_that_never_merges() {
    let mut map = new_map();
    put(&mut map, 2, 8, RW.no_merge());
    let marked = fork(&map, map.alloc().clone()).unwrap();
    let before = vmas(&map);
    unmap(&mut map, 4, 2).unwrap();
    assert_eq!(map.len(), 2);
    map.restore(&marked, |_, _| true, &mut NoHooks).unwrap();
    map.check().unwrap();
    assert_eq!(vmas(&map), before);
}

/// Beyond 64 gaps that are long enough and misaligned, a gap decides that holds an aligned start
/// wherever it lies: one of `len + align - page` bytes, from either end.
#[test]
fn behind_many_misaligned_gaps_the_one_that_fits_wherever_it_is_is_found() {
    const COUNT: u64 = 5_000;
    let page = |page: u64| page << 12;
    let mut map = VmMap::<(), _>::new(0..=page(1 << 20) - 1, PageSize::SIZE_4K, Heap).unwrap();
    // Gaps of 8 pages that begin a page behind an aligned one. The one in the middle has 15 pages,
    // in which there is one start.
    let (mut at, mut only) = (0_u64, 0);
    for gap in 0..2 * COUNT {
        let until = at.next_multiple_of(8) + 1;
        let place = Placement::FixedNoReplace(page(at));
        let attrs = Attrs::new(Prot::RW).with_user_bits(gap);
        map.map(MapRequest::new(place, page(until - at), attrs), &mut NoHooks).unwrap();
        at = until + 8;
        if gap == COUNT {
            (at, only) = (until + 15, until + 7);
        }
    }
    let search = Search::new().align(page(8)).window(0, page(at) - 1);
    for search in [search.bottom_up(), search.top_down()] {
        assert_eq!(map.find_gap(page(8), &search), Ok(page(only)));
    }
}

#[test]
fn what_is_adopted_lies_where_it_is_and_replaces_nothing() {
    let mut map = new_map::<()>();
    let kernel = MapRequest::new(Placement::Fixed(page(8)), 4 * PAGE, RW);
    assert_eq!(map.adopt(kernel), Ok(page(8)));
    assert_eq!(map.adopt(kernel), Err(Error::Overlap));
    let anywhere = MapRequest::new(Placement::FixedNoReplace(page(20)), PAGE, RW);
    assert_eq!(map.adopt(anywhere), Ok(page(20)));
    assert_eq!((map.len(), map.mapped_bytes()), (2, 5 * PAGE));
}

#[test]
fn gaps_and_pieces_are_the_same_from_behind() {
    let mut map = new_map();
    for at in [0, 4, 5, 9] {
        put(&mut map, at, 1, file(at * 2));
    }
    let range = (page(0), 16 * PAGE);
    let gaps: Vec<_> = map.gaps(range.0, range.1).collect();
    let mut behind: Vec<_> = map.gaps(range.0, range.1).rev().collect();
    behind.reverse();
    assert_eq!((gaps.len(), &gaps), (3, &behind));
    let pieces: Vec<_> = map.pieces(range.0, range.1).map(|piece| piece.range()).collect();
    let mut behind: Vec<_> =
        map.pieces(range.0, range.1).rev().map(|piece| piece.range()).collect();
    behind.reverse();
    assert_eq!((pieces.len(), &pieces), (4, &behind));
}

/// Who preallocates what is counted does not want many nodes for nothing.
#[test]
fn restoring_counts_no_node_where_nothing_is_split() {
    let mut saved = new_map();
    put(&mut saved, 2, 4, RW);
    put(&mut saved, 10, 4, RW);
    let fork = |map: &Map| {
        let alloc = map.alloc().clone();
        map.fork(alloc, |vma| Ok::<_, Error>(Some((vma.attrs(), ())))).unwrap()
    };
    let cost = |change: &dyn Fn(&mut Map)| {
        let mut map = fork(&saved);
        change(&mut map);
        map.restore_cost(&saved, |_, _| true)
    };
    let protect = |map: &mut Map, at, pages| {
        map.protect(page(at), pages * PAGE, Prot::READ, &mut NoHooks).unwrap();
    };
    assert_eq!(cost(&|_| ()), 0);
    assert_eq!(cost(&|map| put(map, 20, 4, RW)), 0, "one more goes as a whole");
    assert_eq!(cost(&|map| protect(map, 2, 4)), 0);
    assert_eq!(cost(&|map| protect(map, 2, 2)), 0);
    assert_eq!(cost(&|map| assert!(unmap(map, 2, 4).is_ok())), 1, "one comes back");
    assert_eq!(cost(&|map| put(map, 6, 4, RW)), 3, "one VMA is three again");
}
