//! The number of nodes that lookups visit with hints: unlike time, it is the same each time.

extern crate std;

use std::sync::Arc;
use std::vec::Vec;

use crate::addr_space::{HintTable, LookupHint};
use crate::tree::visits;
use crate::{
    AddrSpace, Attrs, BoxAlloc, MapRequest, Merge, NoHooks, PageSize, Placement, Prot, VmMap,
    VmaNode,
};

const PAGE: u64 = 0x1000;

type Space = AddrSpace<VmMap<(), Arc<BoxAlloc<VmaNode>>>>;

fn new_space() -> Space {
    let nodes = Arc::new(BoxAlloc::new());
    AddrSpace::new(VmMap::new(0..=(1 << 47) - 1, PageSize::SIZE_4K, nodes).unwrap())
}

fn map(space: &Space, start: u64, pages: u64) {
    let request = MapRequest::new(Placement::Fixed(start), pages * PAGE, Attrs::new(Prot::RW));
    space.map(request.with_merge(Merge::Never), &mut NoHooks).unwrap();
}

/// Maps `count` VMAs of four pages, `apart` pages from one start to the next. Returns their starts.
fn row(space: &Space, first: u64, count: u64, apart: u64) -> Vec<u64> {
    let starts: Vec<_> = (0..count).map(|index| first + index * apart * PAGE).collect();
    // Neither upwards nor downwards, as a program does.
    for half in [0, 1] {
        for &start in starts.iter().skip(half).step_by(2) {
            map(space, start, 4);
        }
    }
    starts
}

/// Looks each page of each VMA up. Returns how many nodes a lookup has visited, in hundredths.
fn visits_of(space: &Space, starts: &[u64], pages: u64) -> usize {
    let mut lookups = 0;
    let (visits, ()) = visits::count(|| {
        for &start in starts {
            for page in 0..pages {
                let found = space.lookup(start + page * PAGE).expect("it is mapped");
                assert_eq!(found.range().start(), start);
                lookups += 1;
            }
        }
    });
    visits * 100 / lookups
}

fn give_hints(space: &Space, slots: usize) {
    space.set_hints(HintTable::boxed(slots).unwrap()).unwrap();
}

#[test]
fn hints_lead_to_within_two_nodes_of_the_answer() {
    let space = new_space();
    let starts = row(&space, 0x10_0000, 3_000, 6);
    let without = visits_of(&space, &starts, 4);
    assert!(without > 1100, "{without}");
    give_hints(&space, 4_096);
    visits_of(&space, &starts, 4);
    let with = visits_of(&space, &starts, 4);
    assert!(with < 250, "{with}");
    // Fewer slots, longer ranges.
    give_hints(&space, 300);
    visits_of(&space, &starts, 4);
    let few = visits_of(&space, &starts, 4);
    assert!(with < few && few < 700, "{few}");
    space.clear_hints();
    assert_eq!(visits_of(&space, &starts, 4), without);
}

/// The typical VMA counts, not the largest, nor the space from the first to the last.
#[test]
fn neither_a_large_vma_nor_groups_far_apart_make_hints_useless() {
    let space = new_space();
    map(&space, 1 << 45, 1 << 28);
    let mut starts = row(&space, 0x10_0000, 1_500, 6);
    starts.extend(row(&space, 1 << 44, 1_500, 6));
    give_hints(&space, 8_192);
    visits_of(&space, &starts, 4);
    let with = visits_of(&space, &starts, 4);
    assert!(with < 500, "{with}");
}

/// Nor do VMAs that lie apart at one end of the space, as long as they are fewer.
#[test]
fn what_lies_at_one_end_does_not_decide_for_all() {
    for (most, others) in [(0x10_0000, 1 << 44), (1 << 44, 0x10_0000)] {
        let space = new_space();
        let starts = row(&space, most, 3_000, 6);
        row(&space, others, 1_400, 60_000);
        give_hints(&space, 4_096);
        visits_of(&space, &starts, 4);
        let with = visits_of(&space, &starts, 4);
        assert!(with < 300, "{with}");
    }
}

/// Nor do a few small VMAs among large ones: the table would be too small for ranges as short.
#[test]
fn small_vmas_among_large_ones_do_not_decide_for_all() {
    let space = new_space();
    let place = |index: u64| (0x1000 + index * 512) * PAGE;
    let mut starts = Vec::new();
    // Each eighth is small, and there is no gap that would make it count as large.
    for index in 0..2_800 {
        if index % 8 == 0 {
            map(&space, place(index), 511);
            map(&space, place(index) + 511 * PAGE, 1);
        } else {
            map(&space, place(index), 512);
            starts.push(place(index));
        }
    }
    give_hints(&space, 4_096);
    visits_of(&space, &starts, 16);
    let with = visits_of(&space, &starts, 16);
    assert!(with < 400, "{with}");
}

/// The root that hints belonged to has gone by then.
#[test]
fn operations_are_right_after_hints_were_given_up() {
    let space = new_space();
    let starts = row(&space, 0x10_0000, 3_000, 6);
    give_hints(&space, 4_096);
    visits_of(&space, &starts, 4);
    for (index, &start) in starts.iter().enumerate() {
        if index % 25 != 0 {
            space.unmap(start, 4 * PAGE, &mut NoHooks).unwrap();
        }
    }
    // Also where the root was.
    for &start in &starts {
        map(&space, start, 2);
        space.protect(start, PAGE, Prot::READ, &mut NoHooks).unwrap();
        space.unmap(start + PAGE, PAGE, &mut NoHooks).unwrap();
        assert_eq!(space.lookup(start).map(|vma| vma.range().page_count()), Some(1));
        space.unmap(start, PAGE, &mut NoHooks).unwrap();
    }
    space.inspect(VmMap::check).unwrap();
}

/// Without a table, a hint of a thread's own leads to what it has found last.
#[test]
fn a_lookup_near_the_last_one_visits_one_node() {
    let space = new_space();
    let starts = row(&space, 0x10_0000, 1_000, 6);
    let mut hint = LookupHint::new();
    for (visits, page) in [(5..20, 0), (0..2, 0), (0..2, 3)] {
        let look = || space.lookup_near(starts[500] + page * PAGE, &mut hint);
        let (visited, found) = visits::count(look);
        assert_eq!(found.expect("it is mapped").range().start(), starts[500]);
        assert!(visits.contains(&visited), "{visited}");
    }
}

/// A table that is there from the beginning is asked as soon as it helps, and until it does no
/// more.
#[test]
fn a_table_is_asked_while_there_are_vmas_enough() {
    let space = new_space();
    give_hints(&space, 4_096);
    let few = row(&space, 0x10_0000, 500, 6);
    let (visits, _) = visits::count(|| space.lookup(few[1]));
    let again = visits::count(|| space.lookup(few[1])).0;
    assert_eq!(visits, again, "hints were asked");
    let many = row(&space, 0x1000_0000, 2_500, 6);
    visits_of(&space, &many, 4);
    assert!(visits_of(&space, &many, 4) < 250);
    // As many as 16 times fewer.
    space.unmap(0x1000_0000, 2_500 * 6 * PAGE, &mut NoHooks).unwrap();
    let again = visits::count(|| space.lookup(few[1])).0;
    assert!(again > 5, "hints are still asked: {again}");
}

/// A VMA that has changed is found from the root once, and from a hint afterwards.
#[test]
fn hints_are_mended_by_the_lookups_that_they_have_misled() {
    let space = new_space();
    let starts = row(&space, 0x10_0000, 3_000, 6);
    give_hints(&space, 4_096);
    visits_of(&space, &starts, 4);
    for &start in starts.iter().step_by(3) {
        space.unmap(start, 4 * PAGE, &mut NoHooks).unwrap();
    }
    for &start in starts.iter().step_by(3) {
        map(&space, start, 4);
    }
    let misled = visits_of(&space, &starts, 4);
    let mended = visits_of(&space, &starts, 4);
    assert!(mended < misled && mended < 250, "{misled}, {mended}");
}

/// Operations search as few nodes as lookups do: also where VMAs were unmapped just now.
#[test]
fn operations_under_the_lock_begin_at_hints() {
    let space = new_space();
    let starts = row(&space, 0x10_0000, 3_000, 6);
    // Each somewhere else, since what was found last is found again.
    let of_each = |change: &dyn Fn(u64)| {
        let each = starts.iter().step_by(20);
        let (visits, ()) = visits::count(|| each.clone().for_each(|&start| change(start)));
        visits / each.count()
    };
    let claim = |at| space.claim(Placement::FixedNoReplace(at), 4 * PAGE, &mut NoHooks).unwrap();
    let visits_of_changes = || {
        [
            of_each(&|at| map(&space, at, 4)),
            of_each(&|at| space.protect(at, 4 * PAGE, Prot::READ, &mut NoHooks).unwrap()),
            of_each(&|at| assert_ne!(space.unmap(at, 4 * PAGE, &mut NoHooks), Ok(0))),
            of_each(&|at| drop(claim(at))),
            of_each(&|at| map(&space, at, 4)),
        ]
    };
    let without = visits_of_changes();
    assert!(without.iter().all(|&visits| visits > 9), "{without:?}");
    give_hints(&space, 4_096);
    visits_of(&space, &starts, 4);
    let with = visits_of_changes();
    let bounds = [8, 8, 6, 6, 4];
    assert!(with.iter().zip(bounds).all(|(&visits, bound)| visits < bound), "{with:?}");
    space.inspect(VmMap::check).unwrap();
}
