//! Lookups that begin at hints, against changes of the tree, of the table and of other hints.

use ::loom::sync::Arc;
use ::loom::thread;
use kvma::NoHooks;
use kvma::addr_space::HintTable;

use super::support::*;

/// Unmaps as `unmap` does, but is not led by hints. For models of readers: whoever is led reads the
/// words that he is about to write, and for loom, which compares a write with the last access
/// alone, it then is in nobody's way.
fn unmap_from_the_root(space: &Space, page: u64, pages: u64) {
    space
        .update(3, &mut NoHooks, |map, update| map.unmap(page * PAGE, pages * PAGE, update))
        .unwrap();
}

fn give(space: &Space, slots: usize) {
    space.set_hints(HintTable::boxed(slots).unwrap()).unwrap();
}

/// Returns what makes a space of `vmas`, to each of which there is a hint.
fn hinted(vmas: &'static [TheVma]) -> impl Fn() -> Arc<Space> {
    move || {
        let space = mapped(vmas)();
        give(&space, 3);
        for &(page, ..) in vmas {
            assert!(look(&space, page).is_some());
        }
        space
    }
}

#[test]
fn a_vma_that_is_unmapped_is_found_or_not() {
    let change = |space: &Space| unmap_from_the_root(space, 0x20, 1);
    against(Some(3), hinted(THREE), change, found_at(0x20), &[Some(THREE[1]), None]);
}

/// A removal elsewhere rotates the tree, and moves its root. Bounded: at most two preemptions.
#[test]
fn a_vma_is_never_missed_because_of_a_removal_elsewhere() {
    for gone in 0..5 {
        let seen = explore(Some(2), move |seen| {
            let space = hinted(FIVE)();
            let space2 = space.clone();
            let writer = thread::spawn(move || unmap_from_the_root(&space2, FIVE[gone].0, 1));
            for asked in (0..5).filter(|&asked| asked != gone) {
                match look(&space, FIVE[asked].0) {
                    None => seen.note(1),
                    Some(found) => {
                        assert_eq!(found, Some(FIVE[asked]));
                        seen.note(0);
                    }
                }
            }
            writer.join().unwrap();
        });
        seen.assert_all(1);
    }
}

/// The node of a hint becomes that of another VMA. Bounded: at most two preemptions.
#[test]
fn a_node_that_is_used_again_in_the_same_tree_gives_right_answers() {
    const ONE: &[TheVma] = &[(0x20, 1, RO)];
    let change = |space: &Space| {
        unmap_from_the_root(space, 0x20, 1);
        map_reusing(space, 0x40, 1, RW);
    };
    against(Some(2), hinted(ONE), change, found_at(0x20), &[Some(ONE[0]), None]);
    against(Some(2), hinted(ONE), change, found_at(0x40), &[None, Some((0x40, 1, RW))]);
}

/// The node of a hint goes to another space, where it holds the same page. Bounded: at most two
/// preemptions.
#[test]
fn a_vma_of_another_space_is_never_found() {
    let seen = explore(Some(2), |seen| {
        let alloc = alloc();
        let (here, there) = (space(&alloc), space(&alloc));
        map(&here, 0x20, 1, RW);
        give(&here, 2);
        assert_eq!(look(&here, 0x20), Some(Some((0x20, 1, RW))));
        let here2 = here.clone();
        let writer = thread::spawn(move || {
            unmap_from_the_root(&here2, 0x20, 1);
            map_reusing(&there, 0x20, 1, RO);
            there
        });
        match look(&here, 0x20) {
            None => seen.note(2),
            Some(None) => seen.note(1),
            Some(Some(found)) => {
                assert_eq!(found, (0x20, 1, RW));
                seen.note(0);
            }
        }
        let there = writer.join().unwrap();
        assert_eq!(look(&here, 0x20), Some(None));
        assert_eq!(look(&there, 0x20), Some(Some((0x20, 1, RO))));
    });
    seen.assert_all(2);
}

/// Both use the one slot.
#[test]
fn readers_that_mend_the_same_hint_find_their_vmas() {
    explore(Some(3), |_| {
        let space = space(&alloc());
        map(&space, 0x10, 1, RW);
        map(&space, 0x20, 1, RO);
        give(&space, 1);
        let other = space.clone();
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                assert_eq!(look(&other, 0x10), Some(Some((0x10, 1, RW))));
            }
        });
        for _ in 0..2 {
            assert_eq!(look(&space, 0x20), Some(Some((0x20, 1, RO))));
        }
        reader.join().unwrap();
    });
}

/// A table that is given, replaced or taken away is in nobody's way, and memory stays as long as a
/// lookup may use it.
#[test]
fn lookups_go_on_while_tables_are_exchanged() {
    let clear_and_give = |space: &Space| {
        space.clear_hints();
        give(space, 2);
    };
    let exchanges: [(usize, fn(&Space)); 5] = [
        (0, |space| give(space, 2)),
        (0, clear_and_give),
        (2, |space| space.clear_hints()),
        (2, |space| give(space, 2)),
        (2, clear_and_give),
    ];
    for (with, exchange) in exchanges {
        explore(Some(3), move |_| {
            let space = space(&alloc());
            map(&space, 0x20, 1, RW);
            if with != 0 {
                give(&space, with);
                assert_eq!(look(&space, 0x20), Some(Some((0x20, 1, RW))));
            }
            let space2 = space.clone();
            let kernel = thread::spawn(move || exchange(&space2));
            assert_eq!(look(&space, 0x20), Some(Some((0x20, 1, RW))));
            assert_eq!(look(&space, 0x28), Some(None));
            kernel.join().unwrap();
        });
    }
}

/// Changes that follow when a table was taken away are seen, also by who was on the way by a hint.
#[test]
fn changes_after_a_table_has_gone_are_seen() {
    let change = |space: &Space| {
        space.clear_hints();
        unmap_from_the_root(space, FIVE[0].0, 1);
    };
    against(Some(2), hinted(FIVE), change, found_at(FIVE[2].0), &[Some(FIVE[2])]);
    against(Some(2), hinted(FIVE), change, found_at(FIVE[0].0), &[Some(FIVE[0]), None]);
}

/// Lets the lock's holder search elsewhere: the place that it has come to last is asked before any
/// hint.
fn search_elsewhere(space: &Space) {
    space.protect(0x10 * PAGE, PAGE, RW, &mut NoHooks).unwrap();
}

/// The node of a hint is in another space now, and changes there while the lock's holder here is
/// led to it. Bounded: at most two preemptions.
#[test]
fn the_lock_s_holder_is_not_led_into_another_space() {
    explore(Some(2), |_| {
        let alloc = alloc();
        let (here, there) = (space(&alloc), space(&alloc));
        map(&here, 0x10, 1, RW);
        map(&here, 0x20, 2, RW);
        give(&here, 2);
        assert_eq!(look(&here, 0x20), Some(Some((0x20, 2, RW))));
        // Whoever is led there puts another node in its place.
        unmap_from_the_root(&here, 0x20, 2);
        map_reusing(&there, 0x20, 2, RO);
        search_elsewhere(&here);
        let there2 = there.clone();
        let other = thread::spawn(move || unmap(&there2, 0x20, 1));
        map(&here, 0x20, 1, RW);
        other.join().unwrap();
        for (space, vmas) in [(&here, [(0x10, 1), (0x20, 1)]), (&there, [(0x21, 1), (0, 0)])] {
            let found = space.inspect(|map| {
                map.check().unwrap();
                let vmas = map.iter().map(|vma| (vma.start() / PAGE, vma.page_count()));
                vmas.collect::<Vec<_>>()
            });
            assert!(found.iter().eq(vmas.iter().filter(|vma| vma.1 != 0)), "{found:?}");
        }
    });
}

/// The node of a hint is in no space. One thread looks up, so that the hint stays.
#[test]
fn the_lock_s_holder_is_not_led_to_what_has_gone() {
    explore(Some(2), |_| {
        let space = space(&alloc());
        map(&space, 0x10, 1, RW);
        map(&space, 0x20, 2, RW);
        give(&space, 2);
        assert_eq!(look(&space, 0x20), Some(Some((0x20, 2, RW))));
        unmap_from_the_root(&space, 0x20, 2);
        search_elsewhere(&space);
        let space2 = space.clone();
        let reader = thread::spawn(move || [0x10, 0x12].map(|page| look(&space2, page)));
        map(&space, 0x20, 1, RO);
        // The writer may have been in its way.
        let right = [Some((0x10, 1, RW)), None];
        for (found, right) in reader.join().unwrap().into_iter().zip(right) {
            assert!(found.is_none_or(|found| found == right));
        }
        space.inspect(|map| {
            map.check().unwrap();
            assert_eq!(map.len(), 2);
        });
    });
}
