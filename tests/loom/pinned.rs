//! Readers who look at the data itself, against those who take it away.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::loom::cell::UnsafeCell;
use ::loom::sync::Arc;
use ::loom::sync::atomic::AtomicU64;
use ::loom::thread;
use kvma::pinned::{Domain, Guard, Pinned, PinnedData, Shared, StaticDomain};
use kvma::*;

use super::support::{PAGE, RO, RW, Seen, explore, request};

::loom::lazy_static! {
    /// A new one in each execution.
    static ref DOMAIN: Domain = Domain::new();
}

struct Objects;

// SAFETY: always the same one while an execution lasts.
unsafe impl StaticDomain for Objects {
    fn domain() -> &'static Domain {
        &DOMAIN
    }
}

/// Its cell is read by readers and written by the drop: loom panics unless one is ordered before
/// the other. The crate leaks the memory under loom, so the number can be looked at afterwards.
struct Object {
    cell: UnsafeCell<u64>,
    number: AtomicUsize,
    /// How many objects have been dropped.
    drops: std::sync::Arc<AtomicUsize>,
}

// SAFETY: whether the cell is read and written in order is what the models are about.
unsafe impl Sync for Object {}

const DROPPED: usize = usize::MAX;

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: loom panics if this is not so: nobody reads any more.
        self.cell.with_mut(|cell| unsafe { *cell = u64::MAX });
        let number = self.number.swap(DROPPED, Ordering::SeqCst);
        assert_ne!(number, DROPPED, "dropped twice");
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

type Data = Shared<Object, Objects>;
type Space = AddrSpace<VmMap<Data, std::sync::Arc<BoxAlloc<VmaNode<Data>>>>>;

/// A space, and how many of its objects have been dropped.
fn space() -> (Arc<Space>, std::sync::Arc<AtomicUsize>) {
    let alloc = std::sync::Arc::new(BoxAlloc::new());
    let map = VmMap::new(PAGE..=0xf_ffff, PageSize::SIZE_4K, alloc).unwrap();
    (Arc::new(AddrSpace::new(map)), Default::default())
}

fn object(number: usize, drops: &std::sync::Arc<AtomicUsize>) -> Data {
    Shared::new(Object {
        cell: UnsafeCell::new(number as u64),
        number: number.into(),
        drops: drops.clone(),
    })
}

fn map(space: &Space, page: u64, pages: u64, object: Data) {
    space.map(request(page, pages, RW).with_data(object), &mut NoHooks).unwrap();
}

fn unmap(space: &Space, page: u64, pages: u64) {
    space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap();
}

/// The number of an object that must not have been dropped, read in all ways.
fn read(object: &Object) -> usize {
    let number = object.number.load(Ordering::SeqCst);
    assert_ne!(number, DROPPED, "dropped under a reader");
    // SAFETY: loom panics if this is not so: the drop has not begun.
    assert_eq!(object.cell.with(|cell| unsafe { *cell }), number as u64);
    number
}

/// Looks `page` up on processor `cpu`, and reads the object. Returns its number, 0 if nothing is
/// mapped, or `None` if a writer was in the way.
fn look(space: &Space, page: u64, cpu: usize) -> Option<usize> {
    let guard = Objects::enter_on(cpu);
    let found = space.try_lookup_pinned(page * PAGE, &guard).ok()?;
    Some(found.map_or(0, |(_, object)| read(&object)))
}

/// Checks at the end, when no reader is left, that every object is dropped with the space. Notes 4
/// if some have waited until now, 3 if not.
fn finish<S>(seen: &Seen, space: S, drops: &AtomicUsize, objects: usize) {
    seen.note(3 + usize::from(Objects::domain().deferred() > 0));
    drop(space);
    Objects::collect();
    assert_eq!(Objects::domain().deferred(), 0);
    assert_eq!(drops.load(Ordering::SeqCst), objects);
}

/// One object, a reader, and `change`, after which nothing refers to the object. It is dropped in
/// there if the reader is not in the way (3), and by `finish` else (4).
fn against(
    preemptions: Option<usize>,
    change: impl Fn(&Space, &std::sync::Arc<AtomicUsize>) + Copy + Send + Sync + 'static,
    objects: usize,
    right: impl Fn(usize) -> bool + Send + Sync + 'static,
) {
    let seen = explore(preemptions, move |seen| {
        let (space, drops) = space();
        map(&space, 5, 2, object(1, &drops));
        let (space2, drops2) = (space.clone(), drops.clone());
        let writer = thread::spawn(move || change(&space2, &drops2));
        match look(&space, 5, 0) {
            None => seen.note(2),
            Some(1) => seen.note(0),
            Some(number) => {
                assert!(right(number), "object {number} was never there");
                seen.note(1);
            }
        }
        writer.join().unwrap();
        finish(seen, space, &drops, objects);
    });
    seen.assert_all(5);
}

/// The last reference goes with the VMA.
#[test]
fn what_is_unmapped_is_not_dropped_under_a_reader() {
    against(None, |space, _| unmap(space, 5, 2), 1, |number| number == 0);
}

/// Another object takes its place. Bounded: at most two preemptions.
#[test]
fn what_is_replaced_is_not_dropped_under_a_reader() {
    against(Some(2), |space, drops| map(space, 5, 2, object(2, drops)), 2, |number| number == 2);
}

/// The VMA stays, and is given other data: its node is marked before the old data goes.
#[test]
fn data_that_is_exchanged_is_not_dropped_under_a_reader() {
    against(
        Some(2),
        |space, drops| {
            let other = object(2, drops);
            space
                .update(0, &mut NoHooks, |map, _| map.update_data(5 * PAGE, |data| *data = other))
                .unwrap();
        },
        2,
        |number| number == 2,
    );
}

/// Given up where nothing may be dropped, and collected after that. Bounded: at most two
/// preemptions.
#[test]
fn what_is_dropped_later_is_not_dropped_under_a_reader() {
    let seen = explore(Some(2), |seen| {
        let (space, drops) = space();
        map(&space, 5, 2, object(1, &drops));
        let (space2, drops2) = (space.clone(), drops.clone());
        let writer = thread::spawn(move || {
            let held = space2.inspect(|map| map.find(5 * PAGE).unwrap().data().clone());
            unmap(&space2, 5, 2);
            Shared::drop_later(held);
            assert_eq!(drops2.load(Ordering::SeqCst), 0);
            Objects::collect();
        });
        seen.note(look(&space, 5, 0).map_or(2, |number| 1 - number));
        writer.join().unwrap();
        finish(seen, space, &drops, 1);
    });
    seen.assert_all(5);
}

/// One thread splits the VMA, another one unmaps all of it: the last reference goes on either.
/// Bounded: at most one preemption.
#[test]
fn the_last_reference_may_go_on_any_thread() {
    let seen = explore(Some(1), |seen| {
        let (space, drops) = space();
        map(&space, 5, 2, object(1, &drops));
        let (space2, space3) = (space.clone(), space.clone());
        let splitter = thread::spawn(move || {
            let _ = space2.protect(6 * PAGE, PAGE, RO, &mut NoHooks);
        });
        let unmapper = thread::spawn(move || unmap(&space3, 5, 2));
        seen.note(look(&space, 6, 0).map_or(2, |number| 1 - number));
        splitter.join().unwrap();
        unmapper.join().unwrap();
        finish(seen, space, &drops, 1);
    });
    seen.assert_all(5);
}

/// The reader is counted in the second epoch, and on the second processor.
#[test]
fn a_reader_in_the_second_epoch_is_waited_for() {
    let seen = explore(None, |seen| {
        let (space, drops) = space();
        let first = Objects::enter();
        drop(object(1, &drops));
        drop(first);
        assert_eq!(Objects::collect(), 1);
        map(&space, 5, 2, object(2, &drops));
        let space2 = space.clone();
        let writer = thread::spawn(move || unmap(&space2, 5, 2));
        seen.note(look(&space, 5, 1).map_or(2, |number| number / 2));
        writer.join().unwrap();
        finish(seen, space, &drops, 2);
    });
    seen.assert_all(5);
}

/// The keys of two objects, where those are found if a space would be too much to explore with
/// three threads. As in a node, whoever takes an object away takes its key away first.
struct Keys([AtomicU64; 2]);

impl Keys {
    /// Returns two objects, and their keys.
    fn new(drops: &std::sync::Arc<AtomicUsize>) -> ([Data; 2], Arc<Self>) {
        let objects = [1, 2].map(|number| object(number, drops));
        let keys = [0, 1].map(|at| AtomicU64::new(objects[at].key()));
        (objects, Arc::new(Self(keys)))
    }

    /// Reads an object, if it is there. Returns its number, or 0.
    fn look(&self, at: usize, guard: &Guard<Objects>) -> usize {
        match self.0[at].load(Ordering::Acquire) {
            0 => 0,
            // SAFETY: the key was here after the guard was made, so the object was.
            key => read(Pinned::get(unsafe { Data::from_key(key, guard) })),
        }
    }

    fn take_away(&self, at: usize, object: Data) {
        self.0[at].store(0, Ordering::Relaxed);
        drop(object);
    }
}

/// Two last references go at once: each thread drops what it can, one takes what the other has
/// given up, and nothing is dropped twice. Bounded: at most three preemptions.
#[test]
fn two_threads_drop_each_object_once() {
    let seen = explore(Some(3), |seen| {
        let drops = Default::default();
        let (objects, keys) = Keys::new(&drops);
        let mut at = 0..;
        let droppers = objects.map(|object| {
            let (keys, at) = (keys.clone(), at.next().unwrap());
            thread::spawn(move || keys.take_away(at, object))
        });
        let guard = Objects::enter_on(0);
        seen.note(keys.look(0, &guard));
        seen.note(keys.look(1, &guard));
        drop(guard);
        for dropper in droppers {
            dropper.join().unwrap();
        }
        finish(seen, (), &drops, 2);
    });
    seen.assert_all(5);
}

/// Two objects go one after the other, while two readers enter and leave: the second object waits
/// for readers in another epoch than the first. Bounded: at most three preemptions.
#[test]
fn readers_in_both_epochs_are_waited_for() {
    let seen = explore(Some(3), |seen| {
        let drops = Default::default();
        let ([first, second], keys) = Keys::new(&drops);
        let (keys2, keys3) = (keys.clone(), keys.clone());
        let writer = thread::spawn(move || {
            keys2.take_away(0, first);
            keys2.take_away(1, second);
        });
        let reader = thread::spawn(move || {
            let guard = Objects::enter_on(1);
            keys3.look(1, &guard)
        });
        for at in 0..2 {
            let guard = Objects::enter_on(0);
            seen.note(keys.look(at, &guard));
        }
        seen.note(reader.join().unwrap());
        writer.join().unwrap();
        finish(seen, (), &drops, 2);
    });
    seen.assert_all(5);
}

/// A reference that is made of a pinned object keeps it, or cannot be made any more.
#[test]
fn an_upgrade_keeps_the_object_or_comes_too_late() {
    let seen = explore(Some(3), |seen| {
        let (space, drops) = space();
        map(&space, 5, 1, object(1, &drops));
        let space2 = space.clone();
        let writer = thread::spawn(move || unmap(&space2, 5, 1));
        let guard = Objects::enter();
        let found = space.try_lookup_pinned(5 * PAGE, &guard).unwrap_or(None);
        let held = found.map(|(_, object)| Pinned::upgrade(object));
        drop(guard);
        match held {
            None => seen.note(2),
            Some(None) => seen.note(1),
            Some(Some(held)) => {
                assert_eq!(read(&held), 1);
                seen.note(0);
            }
        }
        writer.join().unwrap();
        finish(seen, space, &drops, 1);
    });
    seen.assert_all(5);
}
