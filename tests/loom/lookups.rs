//! Lookups against changes of the tree: each answer is one that was right at some time.

use super::support::*;
use ::loom::thread;
use kvma::*;

/// Models with more than one change are bounded: at most three preemptions, where not said
/// otherwise.
const BOUND: Option<usize> = Some(3);

/// Maps `vmas`; one thread does `change`; the other asks for `page`, which then is as in one of
/// `right`, each of which is seen, or a writer is in the way.
#[track_caller]
fn against(
    preemptions: Option<usize>,
    vmas: &'static [TheVma],
    change: impl Fn(&Space) + Copy + Send + Sync + 'static,
    page: u64,
    right: &[Option<TheVma>],
) {
    let (right, kinds) = (right.to_vec(), right.len());
    let seen = explore(preemptions, move |seen| {
        let space = space(&alloc());
        for &(start, pages, prot) in vmas {
            map(&space, start, pages, prot);
        }
        let space2 = space.clone();
        let writer = thread::spawn(move || change(&space2));
        match look(&space, page) {
            None => seen.note(5),
            Some(found) => match right.iter().position(|right| *right == found) {
                Some(which) => seen.note(which),
                None => panic!("{found:?} was never at page {page:#x}"),
            },
        }
        writer.join().unwrap();
        space.inspect(|map| map.check()).unwrap();
    });
    seen.assert_all(kinds);
}

const THREE: &[TheVma] = &[(0x10, 1, RW), (0x20, 1, RO), (0x30, 1, RW)];
const FIVE: &[TheVma] =
    &[(0x10, 1, RW), (0x20, 1, RO), (0x30, 1, RW), (0x40, 1, RO), (0x50, 1, RW)];

#[test]
fn unmap_of_the_vma() {
    against(None, THREE, |space| unmap(space, 0x20, 1), 0x20, &[Some(THREE[1]), None]);
}

/// A removal elsewhere turns the tree: what stays is never missed.
#[test]
fn unmap_elsewhere() {
    // Not the last: its node hangs where a reader who asks for the others does not come by.
    for gone in 0..4 {
        for asked in (0..5).filter(|&asked| asked != gone) {
            let change = move |space: &Space| unmap(space, FIVE[gone].0, 1);
            against(None, FIVE, change, FIVE[asked].0, &[Some(FIVE[asked])]);
        }
    }
}

/// Two removals elsewhere: a miss of the second walk, which follows a miss of the first, is one
/// whose change count was read between the two.
#[test]
fn two_unmaps_elsewhere() {
    let change = |space: &Space| {
        unmap(space, FIVE[3].0, 1);
        unmap(space, FIVE[0].0, 1);
    };
    against(BOUND, &FIVE[..4], change, FIVE[2].0, &[Some(FIVE[2])]);
}

/// A node that nobody has seen before is seen initialised.
#[test]
fn map_with_a_fresh_node() {
    against(None, THREE, |space| map(space, 0x28, 1, RW), 0x28, &[None, Some((0x28, 1, RW))]);
    against(None, THREE, |space| map(space, 0x28, 1, RW), 0x20, &[Some(THREE[1])]);
}

/// The node of one VMA becomes that of another one, in another place of the tree.
#[test]
fn unmap_and_map_elsewhere() {
    let change = |space: &Space| {
        unmap(space, 0x20, 1);
        map_reusing(space, 0x40, 1, RW);
    };
    // Bounded: at most two preemptions.
    against(Some(2), THREE, change, 0x20, &[Some(THREE[1]), None]);
    against(Some(2), THREE, change, 0x40, &[None, Some((0x40, 1, RW))]);
}

#[test]
fn split() {
    const WHOLE: &[TheVma] = &[(0x20, 3, RW)];
    let change = |space: &Space| unmap(space, 0x21, 1);
    against(BOUND, WHOLE, change, 0x20, &[Some(WHOLE[0]), Some((0x20, 1, RW))]);
    against(BOUND, WHOLE, change, 0x21, &[Some(WHOLE[0]), None]);
    against(BOUND, WHOLE, change, 0x22, &[Some(WHOLE[0]), Some((0x22, 1, RW))]);
}

/// A page that is mapped before and after, and not in between: that is nobody's business.
#[test]
fn replace_of_the_front() {
    const WHOLE: &[TheVma] = &[(0x20, 2, RW)];
    let change = |space: &Space| map(space, 0x20, 1, RO);
    against(BOUND, WHOLE, change, 0x20, &[Some(WHOLE[0]), Some((0x20, 1, RO))]);
}

#[test]
fn split_by_protect() {
    const WHOLE: &[TheVma] = &[(0x20, 2, RW)];
    let change = |space: &Space| space.protect(0x21 * PAGE, PAGE, RO, &mut NoHooks).unwrap();
    against(BOUND, WHOLE, change, 0x20, &[Some(WHOLE[0]), Some((0x20, 1, RW))]);
    // In between, the part has been cut off and has its old rights. Bounded: two preemptions.
    against(
        Some(2),
        WHOLE,
        change,
        0x21,
        &[Some(WHOLE[0]), Some((0x21, 1, RW)), Some((0x21, 1, RO))],
    );
}

#[test]
fn merge() {
    const PARTS: &[TheVma] = &[(0x20, 1, RW), (0x22, 1, RW)];
    let change = |space: &Space| map(space, 0x21, 1, RW);
    // In between, the new one has been joined with the left one only.
    against(
        BOUND,
        PARTS,
        change,
        0x20,
        &[Some(PARTS[0]), Some((0x20, 2, RW)), Some((0x20, 3, RW))],
    );
    against(BOUND, PARTS, change, 0x21, &[None, Some((0x20, 2, RW)), Some((0x20, 3, RW))]);
    against(BOUND, PARTS, change, 0x22, &[Some(PARTS[1]), Some((0x20, 3, RW))]);
}

/// All parts of an answer are of one time.
#[test]
fn one_state() {
    let seen = explore(BOUND, |seen| {
        let space = space(&alloc());
        let attrs = |n: u64| {
            let prot = if n == 1 { RO } else { RW };
            Attrs::new(prot).with_user_bits(n).with_backing(Backing::Object { id: n, offset: n })
        };
        space
            .map(MapRequest::new(Placement::Fixed(5 * PAGE), PAGE, attrs(1)), &mut NoHooks)
            .unwrap();
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2
                .update(0, &mut NoHooks, |map, update| {
                    map.update_attrs(5 * PAGE, PAGE, |_| attrs(2), update)
                })
                .unwrap();
        });
        match space.try_lookup(5 * PAGE) {
            Err(Busy) => seen.note(2),
            Ok(found) => {
                let found = found.unwrap().attrs();
                assert_eq!(found, attrs(found.user_bits()));
                seen.note(found.user_bits() as usize - 1);
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}

/// The node moves to another space while it is being read. Bounded: at most three preemptions.
#[test]
fn reuse_by_another_space() {
    let seen = explore(BOUND, |seen| {
        let alloc = alloc();
        let (space, other) = (space(&alloc), space(&alloc));
        map(&space, 0x20, 1, RW);
        let (space2, other2) = (space.clone(), other.clone());
        let writer = thread::spawn(move || {
            unmap(&space2, 0x20, 1);
            map_reusing(&other2, 0x1f, 3, RW);
        });
        match look(&space, 0x20) {
            None => seen.note(2),
            Some(None) => seen.note(0),
            Some(Some(found)) => {
                assert_eq!(found, (0x20, 1, RW), "a VMA of another space");
                seen.note(1);
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}

/// Everything back to what it was: shorter, with the rights of then.
#[test]
fn restore() {
    let seen = explore(None, |seen| {
        let alloc = alloc();
        let space = space(&alloc);
        map(&space, 0x20, 1, RO);
        let saved = space.inspect(|map| map.fork(alloc.clone(), |vma| Some(vma.attrs()))).unwrap();
        map(&space, 0x20, 2, RW);
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            space2
                .update(4, &mut NoHooks, |map, update| map.restore(&saved, |_, _| false, update))
                .unwrap();
        });
        match look(&space, 0x20) {
            None => seen.note(2),
            Some(Some((0x20, 2, RW))) => seen.note(0),
            Some(Some((0x20, 1, RO))) => seen.note(1),
            Some(found) => panic!("{found:?} was never there"),
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}
