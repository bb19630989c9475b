//! Arguments as user space may send them: each gets a typed error and its errno, changes nothing,
//! and never panics.

use std::sync::Arc;

use kvma::hooks::Advice;
use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_test_support::Log;
use proptest::prelude::*;

const PAGE: u64 = 4096;
const START: u64 = 0x10_0000;
const PAGES: u64 = 64;
const END: u64 = START + PAGES * PAGE;

type Map = VmMap<(), Arc<BoxAlloc<VmaNode>>>;
type Change<'h> = Update<'h, (), Arc<BoxAlloc<VmaNode>>, Log>;

const RW: Attrs = Attrs::new(Prot::RW);

/// Returns a map of two VMAs, one of which must not be split.
fn new_map() -> Map {
    let mut map = Map::new(START..=END - 1, PageSize::SIZE_4K, Arc::default()).unwrap();
    let whole = RW.with_split_granularity(SplitGranularity::Never);
    for (at, attrs) in [(8, RW), (32, whole)] {
        let request = MapRequest::new(Placement::Fixed(START + at * PAGE), 8 * PAGE, attrs);
        map.map(request, &mut NoHooks).unwrap();
    }
    map
}

fn state(map: &Map) -> Vec<(u64, u64, Attrs)> {
    map.check().unwrap();
    map.iter().map(|vma| (vma.start(), vma.last(), vma.attrs())).collect()
}

/// Ranges that no operation accepts, and why.
const BAD_RANGES: [(u64, u64, Error); 20] = [
    (START, 0, Error::ZeroLength),
    (0, 0, Error::ZeroLength),
    (START + 1, 0, Error::ZeroLength),
    (START, 1, Error::Unaligned),
    (START, PAGE - 1, Error::Unaligned),
    (START, PAGE + 1, Error::Unaligned),
    (START, u64::MAX, Error::Unaligned),
    (START + 1, PAGE, Error::Unaligned),
    (START + PAGE - 1, PAGE, Error::Unaligned),
    (u64::MAX, PAGE, Error::Unaligned),
    (u64::MAX, u64::MAX, Error::Unaligned),
    (0, PAGE, Error::OutOfRange),
    (START - PAGE, PAGE, Error::OutOfRange),
    (START - PAGE, 2 * PAGE, Error::OutOfRange),
    (END - PAGE, 2 * PAGE, Error::OutOfRange),
    (END, PAGE, Error::OutOfRange),
    (START, (PAGES + 1) * PAGE, Error::OutOfRange),
    // The end comes before the start.
    (START + 8 * PAGE, 0u64.wrapping_sub(PAGE), Error::OutOfRange),
    (0u64.wrapping_sub(PAGE), PAGE, Error::OutOfRange),
    (0u64.wrapping_sub(PAGE), 2 * PAGE, Error::OutOfRange),
];

/// Runs `call` on a map. It must fail with `error`, call no hook and change nothing.
fn refused<R: std::fmt::Debug>(
    error: Error,
    what: &str,
    call: impl FnOnce(&mut Map, &mut Change<'_>) -> Result<R, Error>,
) {
    let mut map = new_map();
    let before = state(&map);
    let mut hooks = Log::default();
    let mut update = map.update(&mut hooks);
    let result = call(&mut map, &mut update);
    assert_eq!(result.expect_err(what), error, "{what}");
    update.finish();
    assert_eq!(hooks.lines, [""; 0], "{what}");
    assert_eq!(state(&map), before, "{what}");
    assert_eq!(map.alloc().in_use(), before.len() + 1, "{what}");
}

#[test]
fn every_operation_refuses_bad_ranges() {
    for (start, len, error) in BAD_RANGES {
        let what = |call: &str| format!("{call}({start:#x}, {len:#x})");
        let fixed = MapRequest::new(Placement::Fixed(start), len, RW);
        refused(error, &what("map fixed"), |map, update| map.map(fixed, update));
        let free = MapRequest::new(Placement::FixedNoReplace(start), len, RW);
        refused(error, &what("map free"), |map, update| map.map(free, update));
        refused(error, &what("unmap"), |map, update| map.unmap(start, len, update));
        refused(error, &what("protect"), |map, update| map.protect(start, len, Prot::READ, update));
        refused(error, &what("update_attrs"), |map, update| {
            map.update_attrs(start, len, |_| panic!("asked about nothing"), update)
        });
        refused(error, &what("advise"), |map, update| {
            map.advise(start, len, Advice::DontNeed, update)
        });
        for source in [SourceRange::Unmap, SourceRange::Keep] {
            let to = START + 48 * PAGE;
            refused(error, &what("relocate from"), |map, update| {
                map.relocate(start, len, to, source, Merge::Both, update)
            });
        }
        let map = new_map();
        assert!(!map.is_free(start, len) && !map.covers(start, len), "{}", what("is_free, covers"));
    }
    // The manual page answers EINVAL to all of these.
    assert!(BAD_RANGES.iter().all(|(_, _, error)| error.errno() == Errno::EINVAL));
}

#[test]
fn fixed_placements_over_mapped_ranges_are_refused() {
    let len = 8 * PAGE;
    for at in [1, 8, 15] {
        let clash = MapRequest::new(Placement::FixedNoReplace(START + at * PAGE), len, RW);
        refused(Error::Overlap, "map free", |map, update| map.map(clash, update));
        refused(Error::Overlap, "relocate", |map, update| {
            map.relocate(
                START + 32 * PAGE,
                len,
                START + at * PAGE,
                SourceRange::Unmap,
                Merge::Both,
                update,
            )
        });
    }
    assert_eq!(Error::Overlap.errno(), Errno::EEXIST);
    // Onto itself.
    for to in [6, 8, 12] {
        refused(Error::Overlap, "relocate", |map, update| {
            map.relocate(
                START + 8 * PAGE,
                len,
                START + to * PAGE,
                SourceRange::Unmap,
                Merge::Both,
                update,
            )
        });
    }
    // A bad target.
    for (to, error) in [
        (START + 1, Error::Unaligned),
        (START - PAGE, Error::OutOfRange),
        (END - PAGE, Error::OutOfRange),
        (0u64.wrapping_sub(PAGE), Error::OutOfRange),
    ] {
        refused(error, "relocate to", |map, update| {
            map.relocate(START + 8 * PAGE, len, to, SourceRange::Unmap, Merge::Both, update)
        });
    }
}

#[test]
fn vmas_that_must_not_be_split_are_not() {
    let whole = START + 32 * PAGE;
    for (start, pages) in [(whole + PAGE, 1), (whole + PAGE, 20), (whole - 3 * PAGE, 4), (whole, 7)]
    {
        let len = pages * PAGE;
        let error = Error::SplitRefused;
        let fixed = MapRequest::new(Placement::Fixed(start), len, RW);
        refused(error, "map fixed", |map, update| map.map(fixed, update));
        refused(error, "unmap", |map, update| map.unmap(start, len, update));
        refused(error, "update_attrs", |map, update| {
            map.update_attrs(start, len, |vma| vma.attrs().with_user_bits(1), update)
        });
        refused(error, "relocate", |map, update| {
            map.relocate(start, len, START + 41 * PAGE, SourceRange::Unmap, Merge::Both, update)
        });
    }
    refused(Error::SplitRefused, "protect", |map, update| {
        map.protect(whole, PAGE, Prot::READ, update)
    });
    refused(Error::SplitRefused, "split_at", |map, update| map.split_at(whole + PAGE, update));
    let mut map = new_map();
    assert_eq!(map.unmap(whole, 8 * PAGE, &mut NoHooks), Ok(8 * PAGE), "it may go as a whole");
}

#[test]
fn bad_addresses_for_split_merge_and_data_are_refused() {
    for addr in [START + 8 * PAGE + 1, START + 9 * PAGE - 1, 1, u64::MAX] {
        refused(Error::Unaligned, "split_at", |map, update| map.split_at(addr, update));
        refused(Error::Unaligned, "merge_at", |map, update| map.merge_at(addr, update));
        refused(Error::Unaligned, "can_merge_at", |map, _| map.can_merge_at(addr));
    }
    for addr in [
        0,
        START,
        START + 8 * PAGE,
        START + 9 * PAGE,
        START + 16 * PAGE,
        END,
        0u64.wrapping_sub(PAGE),
    ] {
        refused(Error::NotAdjacent, "merge_at", |map, update| map.merge_at(addr, update));
        refused(Error::NotAdjacent, "can_merge_at", |map, _| map.can_merge_at(addr));
    }
    for addr in [0, START, START + 16 * PAGE, END, u64::MAX] {
        refused(Error::NotMapped, "update_data", |map, _| map.update_data(addr, |()| ()));
        let split = new_map().split_at(addr & !(PAGE - 1), &mut NoHooks);
        assert_eq!(split, Ok(()), "nothing to split");
    }
}

#[test]
fn searches_that_make_no_sense_find_nothing() {
    let any = Search::new();
    for (len, search, error) in [
        (0, any, Error::ZeroLength),
        (1, any, Error::Unaligned),
        (PAGE, any.align(0), Error::Unaligned),
        (PAGE, any.align(3 * PAGE), Error::Unaligned),
        (PAGE, any.align(u64::MAX), Error::Unaligned),
        (PAGE, any.align_offset(1), Error::Unaligned),
        (PAGE, any.guard(1), Error::Unaligned),
        (PAGE, any.guard(0u64.wrapping_sub(PAGE)), Error::NoSpace),
        (PAGE, any.guard(PAGES / 2 * PAGE), Error::NoSpace),
        (0u64.wrapping_sub(PAGE), any, Error::NoSpace),
        (1 << 63, any.guard(1 << 63), Error::NoSpace),
        (PAGES * PAGE, any, Error::NoSpace),
        (PAGE, any.window(0, START - 1), Error::NoSpace),
        (PAGE, any.window(END, u64::MAX), Error::NoSpace),
        (PAGE, any.window(END - 1, START), Error::NoSpace),
        (PAGE, any.window(START + 1, START + 2 * PAGE - 2), Error::NoSpace),
        (PAGE, any.window(START + 8 * PAGE, START + 16 * PAGE - 1), Error::NoSpace),
        // The alignment exceeds the space, which has only one multiple of it.
        (PAGE, any.align(1 << 63).window(PAGE, u64::MAX), Error::NoSpace),
    ] {
        for search in [search.bottom_up(), search.top_down()] {
            refused(error, "find_gap", |map, _| map.find_gap(len, &search));
            let request = MapRequest::new(Placement::Any(search), len, RW);
            refused(error, "map any", |map, update| map.map(request, update));
        }
    }
    assert_eq!(Error::NoSpace.errno(), Errno::ENOMEM);
}

#[test]
fn hints_and_windows_count_as_far_as_they_are_usable() {
    let map = new_map();
    let any = Search::new();
    let place =
        |search: Search| map.find_gap(4 * PAGE, &search).map(|at| at.wrapping_sub(START) / PAGE);
    // Hints: free, which counts even against the alignment asked for; in use; not at a page, which
    // is rounded down as mmap(2) does.
    assert_eq!(place(any.hint(START + 21 * PAGE).align(16 * PAGE)), Ok(21));
    assert_eq!(place(any.hint(START + 8 * PAGE)), Ok(0));
    assert_eq!(place(any.hint(START + 5 * PAGE)), Ok(0), "its end is in use");
    assert_eq!(place(any.hint(START + 20 * PAGE + 1)), Ok(20));
    assert_eq!(place(any.hint(START + 21 * PAGE - 1)), Ok(20));
    assert_eq!(place(any.hint(START + 8 * PAGE + 1)), Ok(0), "in use, once it is rounded");
    assert_eq!(place(any.hint(START + 61 * PAGE).top_down()), Ok(60), "its end is outside");
    for hint in [0, START - PAGE, END, u64::MAX, 0u64.wrapping_sub(PAGE)] {
        assert_eq!(place(any.hint(hint)), Ok(0));
    }
    assert_eq!(place(any.hint(START + 20 * PAGE).window(START, START + 20 * PAGE)), Ok(0));
    // Windows: one sticks out of the space, others have ends that are not aligned.
    assert_eq!(place(any.window(0, START + 4 * PAGE - 1)), Ok(0));
    assert_eq!(place(any.window(END - 4 * PAGE, u64::MAX)), Ok(60));
    assert_eq!(place(any.window(START + 1, u64::MAX)), Ok(1));
    assert_eq!(place(any.window(0, END - 2).top_down()), Ok(59));
    // Guards lie within the space and the window, at their ends too.
    assert_eq!(place(any.guard(PAGE)), Ok(1));
    assert_eq!(place(any.guard(PAGE).top_down()), Ok(59));
    assert_eq!(place(any.guard(2 * PAGE)), Ok(2));
    assert_eq!(place(any.guard(3 * PAGE)), Ok(19), "4 + 2 · 3 do not fit below page 8");
    assert_eq!(place(any.guard(PAGE).hint(START)), Ok(1), "the guard below does not fit");
    assert_eq!(place(any.guard(PAGE).hint(START + 16 * PAGE)), Ok(1), "in use below");
    assert_eq!(place(any.guard(PAGE).hint(START + 17 * PAGE)), Ok(17));
    // Alignment counts from address 0. An offset counts modulo the alignment.
    assert_eq!(place(any.align(64 * PAGE)), Ok(0));
    assert_eq!(place(any.align(64 * PAGE).align_offset(20 * PAGE)), Ok(20));
    assert_eq!(place(any.align(16 * PAGE).align_offset(66 * PAGE)), Ok(2));
    assert_eq!(place(any.align(16 * PAGE).align_offset(20 * PAGE).guard(PAGE).top_down()), Ok(52));
    assert_eq!(place(any.align(1)), Ok(0));
}

#[test]
fn impossible_spaces_pages_and_ranges_are_refused() {
    let page = PageSize::SIZE_4K;
    let space = |first, last, page| Map::new(first..=last, page, Arc::default()).err();
    assert_eq!(space(1, 0, page), Some(Error::ZeroLength));
    assert_eq!(space(PAGE, PAGE - 1, page), Some(Error::ZeroLength));
    assert_eq!(space(1, PAGE - 1, page), Some(Error::Unaligned));
    assert_eq!(space(0, PAGE, page), Some(Error::Unaligned));
    assert_eq!(space(0, u64::MAX - 1, page), Some(Error::Unaligned));
    assert_eq!(space(0, u64::MAX, page), None, "all 64 bits");
    let byte = PageSize::new(1).unwrap();
    assert_eq!(space(0, u64::MAX - 1, byte), None);
    assert_eq!(space(1, u64::MAX, byte), Some(Error::OutOfRange), "it would end at 2^64");
    let half = PageSize::new(1 << 63).unwrap();
    assert_eq!(space(0, u64::MAX, half), None);
    assert_eq!(space(0, (1 << 63) - 1, half), None);
    for bytes in [0, 3, 4095, 4097, u64::MAX] {
        assert_eq!(PageSize::new(bytes), Err(Error::Unaligned));
    }
    assert_eq!(VmRange::new(0, 0, page), Err(Error::ZeroLength));
    assert_eq!(VmRange::new(7, PAGE, page), Err(Error::Unaligned));
    assert_eq!(VmRange::new(PAGE, 7, page), Err(Error::Unaligned));
    assert_eq!(
        VmRange::new(PAGE, 0u64.wrapping_sub(PAGE), page).map(|range| range.end()),
        Ok(None)
    );
    assert_eq!(VmRange::new(2 * PAGE, 0u64.wrapping_sub(PAGE), page), Err(Error::OutOfRange));
    assert_eq!(VmRange::from_bounds(PAGE, 0, page), Err(Error::ZeroLength));
    let all = VmRange::from_bounds(0, u64::MAX, page).unwrap();
    assert_eq!((all.last(), all.end(), all.len()), (u64::MAX, None, None));
    assert_eq!(all.page_count(), 1 << 52);
    assert!(all.contains(u64::MAX) && all.overlaps(VmRange::new(PAGE, PAGE, page).unwrap()));
}

/// Returns numbers near every edge there is.
fn hostile() -> impl Strategy<Value = u64> {
    let edges = [0, 1, START, END, 1 << 12, 1 << 47, 1 << 52, 1 << 63, u64::MAX];
    prop_oneof![
        3 => (0..edges.len(), -2i64..3, 0u32..14).prop_map(move |(edge, by, shift)| {
            edges[edge].wrapping_add_signed(by << shift)
        }),
        3 => (0..PAGES + 2).prop_map(|page| START + page * PAGE),
        2 => (0..PAGES + 2).prop_map(|pages| pages * PAGE),
        1 => any::<u64>(),
    ]
}

/// Calls everything with these numbers as addresses, lengths and offsets.
fn call_everything(n: [u64; 8], shift: u32) {
    let page = PageSize::new(1 << shift).unwrap();
    let _ = VmRange::new(n[0], n[1], page)
        .map(|range| (range.last(), range.end(), range.len(), range.contains(n[2])));
    let _ = Map::new(n[0]..=n[1], page, Arc::default());
    let (first, behind) = (page.round_down(n[0].min(n[1])), page.round_down(n[0].max(n[1])));
    let own = Map::new(first..=behind.wrapping_sub(1), page, Arc::default()).ok();
    let spaces = [
        Some(new_map()),
        own,
        Map::new(0..=u64::MAX, PageSize::SIZE_4K, Arc::default()).ok(),
        Map::new(0..=u64::MAX - 1, PageSize::new(1).unwrap(), Arc::default()).ok(),
    ];
    for mut map in spaces.into_iter().flatten() {
        let search =
            Search::new().window(n[2], n[3]).align(n[4]).align_offset(n[5]).guard(n[6]).hint(n[7]);
        let power = search.align(1 << shift).guard(0);
        let file = RW.with_backing(Backing::Object { id: n[6], offset: n[7] });
        for search in [search, search.top_down(), power, power.top_down(), Search::new().hint(n[0])]
        {
            let _ = map.map(MapRequest::new(Placement::Any(search), n[1], file), &mut NoHooks);
        }
        for place in
            [Placement::FixedNoReplace(n[0]), Placement::Fixed(n[2]), Placement::Fixed(n[4])]
        {
            let _ = map.map(MapRequest::new(place, n[1], file), &mut NoHooks);
        }
        for pair in n.windows(2) {
            let (start, len) = (pair[0], pair[1]);
            let mut hooks = NoHooks;
            let update = &mut map.update(&mut hooks);
            let _ = map.split_at(start, update);
            let _ = map.protect(start, len, Prot::READ, update);
            let _ = map.update_attrs(
                start,
                len,
                |vma| vma.attrs().with_user_bits(vma.page_count()),
                update,
            );
            let _ = map.relocate(start, len, n[3], SourceRange::Keep, Merge::Both, update);
            let _ = map.relocate(start, len, n[5], SourceRange::Unmap, Merge::Both, update);
            let _ = map.advise(start, len, Advice::DontNeed, update);
            let _ = map.invalidate(start, len, update, |_, vma| assert!(vma.page_count() > 0));
            let _ = (map.merge_at(start, update), map.can_merge_at(len));
            let _ = map.update_data(start, |()| ());
            for placement in [Placement::Fixed(start), Placement::FixedNoReplace(start)] {
                let Ok(claimed) = map.claim(placement, len, update) else { continue };
                let _ = map.commit_claim(&claimed, file, (), Merge::Both, update);
                map.release_claim(claimed, update).unwrap();
            }
            let found = [map.find(start), map.find_from(start), map.find_before(start)];
            for vma in found.into_iter().flatten() {
                let _ = (vma.range().end(), vma.range().len(), vma.last(), vma.gap_before());
            }
            let _ = map.overlapping(start, len).count() + map.overlapping(start, len).rev().count();
            let _ = map.gaps(start, len).count() + map.gaps(start, len).rev().count();
            let _ = map.pieces(start, len).count();
            let _ = (map.to_string(), format!("{map:#} {map:?}"));
            let _ = (map.is_free(start, len), map.covers(start, len));
            let _ = map.unmap(n[6], len, update);
            assert_eq!(map.check(), Ok(()));
        }
        let _ = map.clear(&mut NoHooks);
        assert_eq!((map.len(), map.mapped_bytes()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Overflow checks are on in tests: a sum that wraps would panic.
    #[test]
    fn no_numbers_make_anything_panic(n in prop::array::uniform8(hostile()), shift in 0u32..64) {
        call_everything(n, shift);
    }
}
