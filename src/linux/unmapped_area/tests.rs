//! The number of VMAs that a search for a place looks at, in address spaces that are built to make
//! it long.

extern crate std;

use std::vec::Vec;

use super::super::abi::{MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE};
use super::super::{Mmap, NoFile, NoKernel};
use super::*;
use crate::Heap;
use crate::tree::visits;

const PAGE: u64 = 4096;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;

/// A pattern of VMAs that is repeated from an address on: gap before, pages, `MAP_GROWSDOWN` or 0.
type Pattern = &'static [(u64, u64, u64)];

/// Counts the nodes that mmap of `pages` pages looks at after `count` repetitions of a pattern that
/// ends where the search begins.
fn visits_after(
    pattern: Pattern,
    count: u64,
    pages: u64,
    flags: u64,
    layout: fn(u64, u64) -> Layout,
) -> usize {
    let size: u64 = pattern.iter().map(|(gap, len, _)| (gap + len) * PAGE).sum();
    let start = if flags & MAP_32BIT != 0 { 1 << 30 } else { 1 << 45 };
    let end = start + count * size;
    let mut mm = Mm::<NoFile, _>::new(layout(start, end), Heap).unwrap();
    let mut kernel = NoKernel;
    let mut call = mm.update(&mut kernel);
    let mut at = start;
    for index in 0..count {
        for &(gap, len, grows) in pattern {
            at += gap * PAGE;
            // Neighbours differ, so that they do not merge.
            let (len, prot, flags) = (len * PAGE, index % 2, ANON | MAP_FIXED | grows);
            mm.mmap(Mmap { addr: at, len, prot, flags, offset: 0, file: None }, &mut call).unwrap();
            at += len;
        }
    }
    call.finish();
    mm.map.check().unwrap();
    let request = PlacementRequest { map_flags: flags, ..PlacementRequest::anywhere(pages * PAGE) };
    let (visits, found) = visits::count(|| mm.get_unmapped_area(&request, Capabilities::empty()));
    let found = found.unwrap();
    assert!(mm.first_in(found).is_none());
    visits
}

fn top_down(_: u64, end: u64) -> Layout {
    Layout::x86_64(8 << 20).with_base(end)
}

fn bottom_up(start: u64, _: u64) -> Layout {
    Layout::x86_64(8 << 20).with_bottom(start).with_direction(Direction::BottomUp)
}

/// A layout that places within a window.
type MakeLayout = fn(u64, u64) -> Layout;

/// Stacks that are nearer to one another than their guard gaps are long: mmap looked at each.
#[test]
fn stacks_in_the_way_cost_no_more_than_log_n() {
    const STACK: u64 = MAP_GROWSDOWN;
    let patterns: [(Pattern, u64); 5] = [
        // Long enough with the guard gap only.
        (&[(252, 1, STACK)], 250),
        (&[(252, 1, STACK)], 1),
        // Long enough, but within the guard gap of the next stack but one.
        (&[(60, 1, 0), (60, 1, STACK)], 50),
        (&[(30, 1, 0), (255, 1, STACK)], 20),
        // Every other guard gap counts.
        (&[(250, 1, STACK)], 248),
    ];
    for (pattern, pages) in patterns {
        let placements: [(u64, MakeLayout); 3] =
            [(0, top_down), (0, bottom_up), (MAP_32BIT, top_down)];
        for (flags, layout) in placements {
            // Below 2 GiB there is not room for more.
            let counts = if flags == MAP_32BIT { [100, 800] } else { [200, 1600] };
            let visits: Vec<_> = counts
                .into_iter()
                .map(|count| visits_after(pattern, count, pages, flags, layout))
                .collect();
            let context = format_args!("{pattern:?}, {pages} pages, {flags:#x}: {visits:?}");
            // What is looked at for guard gaps that reach far, and ways up and down the tree.
            assert!(visits[1] <= 4 * REACH + 64 * 40, "{context}");
            if flags == MAP_32BIT || layout(0, 1 << 45) == bottom_up(0, 1 << 45) {
                assert!(visits[1] <= 100, "{context}");
            }
            // Eight times as many VMAs are three more levels.
            assert!(visits[1] <= visits[0] + visits[0] / 2 + 50, "{context}");
        }
    }
}
