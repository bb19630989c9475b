//! The next VMA at or after a page, against changes of the tree.

use ::loom::thread;
use kvma::addr_space::LookupHint;

use super::support::*;

/// For changes of several steps: with three preemptions, one of them takes minutes.
const BOUND: Option<usize> = Some(2);
/// For changes of one VMA.
const WIDE: Option<usize> = Some(3);

/// Returns the VMA at or after `page`, or `None` if a writer was in the way.
fn next(space: &Space, page: u64) -> Option<Option<TheVma>> {
    space.try_next_vma(page * PAGE).ok().map(|found| found.map(vma))
}

fn next_from(page: u64) -> impl Fn(&Space) -> Option<Option<TheVma>> {
    move |space| next(space, page)
}

/// A removal elsewhere rotates the tree, each in another way. Without a bound, one of them alone
/// takes minutes; two preemptions are enough for a change between any two steps of a walk.
#[test]
fn a_vma_is_never_passed_over_because_of_a_removal_elsewhere() {
    for gone in 0..4 {
        for asked in (0..5).filter(|&asked| asked != gone) {
            let change = move |space: &Space| unmap(space, FIVE[gone].0, 1);
            // Its own page, and a page in the gap before it.
            against(BOUND, mapped(FIVE), change, next_from(FIVE[asked].0), &[Some(FIVE[asked])]);
            against(
                BOUND,
                mapped(FIVE),
                change,
                next_from(FIVE[asked].0 - 8),
                &[Some(FIVE[asked])],
            );
        }
    }
}

#[test]
fn a_vma_that_comes_or_goes_is_next_or_not() {
    let comes = |space: &Space| map(space, 0x28, 1, RW);
    against(WIDE, mapped(THREE), comes, next_from(0x24), &[Some(THREE[2]), Some((0x28, 1, RW))]);
    against(WIDE, mapped(THREE), comes, next_from(0x29), &[Some(THREE[2])]);
    let goes = |space: &Space| unmap(space, 0x20, 1);
    against(WIDE, mapped(THREE), goes, next_from(0x18), &[Some(THREE[1]), Some(THREE[2])]);
    let last = |space: &Space| unmap(space, 0x30, 1);
    against(WIDE, mapped(THREE), last, next_from(0x28), &[Some(THREE[2]), None]);
    let above = |space: &Space| map(space, 0x40, 1, RW);
    against(WIDE, mapped(THREE), above, next_from(0x38), &[None, Some((0x40, 1, RW))]);
}

/// Pages that are mapped before and after the change are mapped all the while.
#[test]
fn what_is_split_or_replaced_is_never_passed_over() {
    const TWO: &[TheVma] = &[(0x20, 3, RW), (0x30, 1, RW)];
    let split = |space: &Space| unmap(space, 0x21, 1);
    against(BOUND, mapped(TWO), split, next_from(0x22), &[Some(TWO[0]), Some((0x22, 1, RW))]);
    // Of the last two: behind them comes the end, which a walk must not take for the next.
    const LAST: &[TheVma] = &[(0x20, 1, RW), (0x21, 1, RO)];
    let replace = |space: &Space| map(space, 0x20, 2, RO);
    against(BOUND, mapped(LAST), replace, next_from(0x21), &[Some(LAST[1]), Some((0x20, 2, RO))]);
}

#[test]
fn vmas_that_merge_are_never_passed_over() {
    const PARTS: &[TheVma] = &[(0x20, 1, RW), (0x22, 1, RW), (0x30, 1, RW)];
    let change = |space: &Space| map(space, 0x21, 1, RW);
    against(BOUND, mapped(PARTS), change, next_from(0x22), &[Some(PARTS[1]), Some((0x20, 3, RW))]);
    against(
        BOUND,
        mapped(PARTS),
        change,
        next_from(0x21),
        &[Some(PARTS[1]), Some((0x20, 2, RW)), Some((0x20, 3, RW))],
    );
}

/// A VMA that a lookup has found is not passed over by the walk that follows.
#[test]
fn walks_and_lookups_agree() {
    let seen = explore(BOUND, |seen| {
        let space = mapped(THREE)();
        let space2 = space.clone();
        let writer = thread::spawn(move || map(&space2, 0x28, 1, RW));
        let new = Some((0x28, 1, RW));
        if look(&space, 0x28) == Some(new) {
            seen.note(0);
            assert!(next(&space, 0x24).is_none_or(|found| found == new));
        } else {
            seen.note(1);
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}

/// The node of a VMA becomes that of another one, which is found by a hint before the walk can come
/// to its new place. Bounded: at most one preemption, that of the change.
#[test]
fn what_a_hint_has_found_is_not_passed_over() {
    let seen = explore(Some(1), |seen| {
        let space = space(&alloc());
        map(&space, 0x30, 1, RW);
        map(&space, 0x40, 1, RO);
        let mut hint = LookupHint::new();
        assert!(space.try_lookup_near(0x40 * PAGE, &mut hint).unwrap().is_some());
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            unmap(&space2, 0x40, 1);
            map_reusing(&space2, 0x28, 1, RW);
        });
        let new = Some((0x28, 1, RW));
        match space.try_lookup_near(0x28 * PAGE, &mut hint) {
            Ok(found) if found.map(vma) == new => {
                seen.note(0);
                assert!(next(&space, 0x24).is_none_or(|found| found == new));
            }
            _ => seen.note(1),
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}
