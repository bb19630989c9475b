//! Several writers.

use super::support::*;
use ::loom::thread;

/// Two changes of overlapping ranges: one after the other, whichever comes first.
#[test]
fn two_writers() {
    let seen = explore(None, |seen| {
        let space = space(&alloc());
        map(&space, 0x20, 2, RW);
        let space2 = space.clone();
        let other = thread::spawn(move || unmap(&space2, 0x21, 1));
        map(&space, 0x21, 2, RO);
        other.join().unwrap();
        let areas: Vec<Area> = space.inspect(|map| {
            map.check().unwrap();
            map.iter().map(|vma| (vma.start() / PAGE, vma.pages(), vma.prot())).collect()
        });
        match areas[..] {
            [(0x20, 1, RW), (0x21, 2, RO)] => seen.note(0),
            [(0x20, 1, RW), (0x22, 1, RO)] => seen.note(1),
            _ => panic!("{areas:x?}"),
        }
    });
    seen.assert_all(2);
}

/// Two writers and a reader. Bounded: at most two preemptions.
#[test]
fn two_writers_and_a_reader() {
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
