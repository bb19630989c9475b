//! Maps that are exchanged, spaces that were changed without the lock, and several readers.

use ::loom::sync::Arc;
use ::loom::thread;
use kvma::addr_space::{Busy, HasVmMap};
use kvma::*;

use super::support::*;

type Map = VmMap<(), Alloc>;

/// A map in a box does not move when it is exchanged.
struct Boxed(Box<Map>);

impl HasVmMap for Boxed {
    type Data = ();
    type Alloc = Alloc;

    fn vm_map(&self) -> &Map {
        &self.0
    }
}

/// A map, wherever it lies.
trait Holder: HasVmMap<Data = (), Alloc = Alloc> + Send + Sized + 'static {
    fn new(map: Map) -> Self;
    fn map(&mut self) -> &mut Map;
}

impl Holder for Map {
    fn new(map: Map) -> Self {
        map
    }

    fn map(&mut self) -> &mut Map {
        self
    }
}

impl Holder for Boxed {
    fn new(map: Map) -> Self {
        Boxed(Box::new(map))
    }

    fn map(&mut self) -> &mut Map {
        &mut self.0
    }
}

fn holder<M: Holder>(alloc: &Alloc, prot: Prot) -> M {
    let mut map = VmMap::new(PAGE..=0x10_0fff, PageSize::SIZE_4K, alloc.clone()).unwrap();
    map.map(request(5, 1, prot), &mut NoHooks).unwrap();
    M::new(map)
}

/// One thread puts another map into a space, and goes on to change the former one. The other looks
/// for what was in the former map, is in the new one, or came into the former one afterwards.
/// Bounded: at most two preemptions.
fn exchange_against_a_lookup<M: Holder>() {
    for page in [5, 9] {
        let seen = explore(Some(2), move |seen| {
            let alloc = alloc();
            let space: Arc<AddrSpace<M>> = Arc::new(AddrSpace::new(holder(&alloc, RW)));
            let mut other: M = holder(&alloc, RO);
            let space2 = space.clone();
            let writer = thread::spawn(move || {
                space2.update(2, &mut NoHooks, |map, update| {
                    std::mem::swap(map, &mut other);
                    other.map().map(request(9, 1, RW), update).unwrap();
                });
                other
            });
            match space.try_lookup(page * PAGE) {
                Err(Busy) => seen.note(2),
                Ok(None) => {
                    assert_eq!(page, 9, "in either map there is something");
                    seen.note(0);
                }
                Ok(Some(found)) => {
                    assert_eq!(page, 5, "what is added to the former map is not of this space");
                    seen.note(if found.prot() == RW { 0 } else { 1 });
                }
            }
            let mut former = writer.join().unwrap();
            former.map().check().unwrap();
            assert_eq!(former.map().len(), 2);
        });
        seen.assert_all(if page == 5 { 2 } else { 1 });
    }
}

#[test]
fn maps_that_are_exchanged_do_not_answer_for_each_other() {
    exchange_against_a_lookup::<Map>();
}

#[test]
fn maps_in_boxes_that_are_exchanged_do_not_answer_for_each_other() {
    exchange_against_a_lookup::<Boxed>();
}

/// Changes by a guard of `get_mut` that was forgotten are not published: readers publish the root,
/// one at a time.
#[test]
fn readers_publish_what_was_forgotten() {
    let seen = explore(None, |seen| {
        let mut space = bare_space(&alloc());
        space.get_mut().map(request(5, 1, RW), &mut NoHooks).unwrap();
        let mut guard = space.get_mut();
        for page in [7, 9] {
            guard.map(request(page, 1, RW), &mut NoHooks).unwrap();
        }
        std::mem::forget(guard);
        let space = Arc::new(space);
        let space2 = space.clone();
        let other = thread::spawn(move || look(&space2, 9));
        for found in [look(&space, 9), other.join().unwrap()] {
            match found {
                None => seen.note(1),
                Some(found) => {
                    assert_eq!(found, Some((9, 1, RW)));
                    seen.note(0);
                }
            }
        }
        assert_eq!(look(&space, 9), Some(Some((9, 1, RW))));
    });
    seen.assert_all(1);
}

/// Readers do not write, so they have nothing to do with each other: both are right. Bounded: at
/// most one preemption.
#[test]
fn two_readers_against_a_writer_are_right() {
    let seen = explore(Some(1), |seen| {
        let space = space(&alloc());
        map(&space, 0x20, 1, RW);
        let (space2, space3) = (space.clone(), space.clone());
        let reader = thread::spawn(move || look(&space2, 0x20));
        let writer = thread::spawn(move || unmap(&space3, 0x20, 1));
        let found = look(&space, 0x20);
        for found in [found, reader.join().unwrap()] {
            match found {
                None => seen.note(2),
                Some(None) => seen.note(0),
                Some(Some(found)) => {
                    assert_eq!(found, (0x20, 1, RW));
                    seen.note(1);
                }
            }
        }
        writer.join().unwrap();
    });
    seen.assert_all(2);
}
