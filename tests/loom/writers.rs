//! Several writers at once.

use ::loom::sync::Arc;
use ::loom::thread;
use kvma::*;

use super::support::*;

#[test]
fn two_changes_of_one_range_come_one_after_the_other() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 0x20, 2, RW);
        let space2 = space.clone();
        let other = thread::spawn(move || unmap(&space2, 0x21, 1));
        map(&space, 0x21, 2, RO);
        other.join().unwrap();
        let vmas: Vec<TheVma> = space.inspect(|map| {
            map.check().unwrap();
            map.iter().map(|vma| (vma.start() / PAGE, vma.page_count(), vma.prot())).collect()
        });
        match vmas[..] {
            [(0x20, 1, RW), (0x21, 2, RO)] => seen.note(0),
            [(0x20, 1, RW), (0x22, 1, RO)] => seen.note(1),
            _ => panic!("{vmas:x?}"),
        }
    });
    seen.assert_all(2);
}

/// Bounded: at most two preemptions.
#[test]
fn a_lookup_against_two_writers_is_right() {
    let seen = explore(Some(2), |seen| {
        let space = space(&alloc());
        map(&space, 0x20, 1, RW);
        let spaces = [space.clone(), space.clone()];
        let writers = spaces.map(|space| thread::spawn(move || unmap(&space, 0x20, 1)));
        match look(&space, 0x20) {
            None => seen.note(2),
            Some(None) => seen.note(0),
            Some(Some(found)) => {
                assert_eq!(found, (0x20, 1, RW));
                seen.note(1);
            }
        }
        for writer in writers {
            writer.join().unwrap();
        }
    });
    seen.assert_all(2);
}

/// Both threads ask for both locks, in opposite orders: they are taken in one order.
///
/// Moves of VMAs are tested by threads, in `tests/addr_space/two_spaces.rs`: with several flushes
/// that end at once, loom 0.7 panics in code that its own comments call unfinished.
#[test]
fn the_locks_of_two_spaces_are_taken_in_one_order() {
    let seen = explore(None, |seen| {
        let alloc = alloc();
        // In one allocation: locks are ordered by address, which must be the same in every
        // execution.
        let spaces = Arc::new([bare_space(&alloc), bare_space(&alloc)]);
        let both = |one: &Space, other: &Space| {
            one.update_both(other, 0, &mut NoHooks, &mut NoHooks, |one, _, other, _| {
                one.len() + other.len()
            })
            .unwrap()
        };
        let there = spaces.clone();
        let back = thread::spawn(move || both(&there[1], &there[0]));
        assert_eq!(both(&spaces[0], &spaces[1]), 0);
        assert_eq!(back.join().unwrap(), 0);
        seen.note(0);
    });
    seen.assert_all(1);
}

/// Somebody else maps at a fixed address, which takes the claim away. What is committed before that
/// is replaced.
#[test]
fn a_claim_is_committed_or_taken_away_but_never_both() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        let claim = space.claim(Placement::Fixed(5 * PAGE), 2 * PAGE, &mut NoHooks).unwrap();
        let space2 = space.clone();
        let other = thread::spawn(move || map(&space2, 5, 1, RO));
        // Nobody else sees it before it is committed.
        let committed = claim.commit(Attrs::new(RW), (), &mut NoHooks);
        other.join().unwrap();
        let vmas: Vec<TheVma> = space.inspect(|map| {
            map.check().unwrap();
            map.iter().map(|vma| (vma.start() / PAGE, vma.page_count(), vma.prot())).collect()
        });
        match committed {
            Ok(_) => {
                seen.note(0);
                assert_eq!(vmas, [(5, 1, RO), (6, 1, RW)]);
            }
            Err(error) => {
                seen.note(1);
                assert_eq!((error, &vmas[..]), (Error::ClaimLost, &[(5, 1, RO)][..]));
                assert!(space.inspect(|map| map.is_free(6 * PAGE, PAGE)));
            }
        }
    });
    seen.assert_all(2);
}

/// Bounded: at most three preemptions.
#[test]
fn a_claim_is_found_by_no_lookup_until_it_is_committed() {
    let seen = explore(Some(3), |seen| {
        let space = space(&alloc());
        let space2 = space.clone();
        let claimant = thread::spawn(move || {
            let claim = space2.claim(Placement::Fixed(5 * PAGE), PAGE, &mut NoHooks).unwrap();
            claim.commit(Attrs::new(RW), (), &mut NoHooks).unwrap();
        });
        match look(&space, 5) {
            None => seen.note(2),
            Some(None) => seen.note(0),
            Some(Some(found)) => {
                assert_eq!(found, (5, 1, RW));
                seen.note(1);
            }
        }
        claimant.join().unwrap();
    });
    seen.assert_all(2);
}
