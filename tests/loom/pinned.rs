//! Readers who look at the data itself, against those who take it away.

use super::support::{PAGE, RO, RW, Seen, explore, request};
use ::loom::cell::UnsafeCell;
use ::loom::sync::Arc;
use ::loom::thread;
use kvma::pinned::{Domain, Pinned, Shared, StaticDomain};
use kvma::*;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    let map = VmMap::new(PAGE, 256, PageSize::SIZE_4K, alloc).unwrap();
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

/// One reader on this processor: the number of the object at `page`, 0 if nothing is there, `None`
/// if a writer was in the way.
fn look(space: &Space, page: u64, cpu: usize) -> Option<usize> {
    let guard = Objects::enter_on(cpu);
    let found = space.try_lookup_pinned(page * PAGE, &guard).ok()?;
    Some(found.map_or(0, |(_, object)| read(&object)))
}

/// At the end, when no reader is left: whatever waits is dropped, and all objects are.
fn finish(seen: &Seen, space: Arc<Space>, drops: &AtomicUsize, objects: usize) {
    drop(space);
    seen.note(if Objects::collect() == 0 { 3 } else { 4 });
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

/// Given up where nothing may be dropped: it always waits.
#[test]
fn what_is_given_up_to_be_dropped_later_is_dropped_once() {
    let seen = explore(Some(2), |seen| {
        let (space, drops) = space();
        map(&space, 5, 2, object(1, &drops));
        let space2 = space.clone();
        let writer = thread::spawn(move || {
            let held = space2.inspect(|map| map.find(5 * PAGE).unwrap().data().clone());
            unmap(&space2, 5, 2);
            Shared::drop_later(held);
        });
        seen.note(look(&space, 5, 0).map_or(2, |number| 1 - number));
        writer.join().unwrap();
        finish(seen, space, &drops, 1);
        seen.note(3);
    });
    seen.assert_all(5);
}

/// One thread splits the VMA, another one unmaps all of it: the last reference goes on either.
/// Bounded: at most two preemptions.
#[test]
fn the_last_reference_may_go_on_any_thread() {
    let seen = explore(Some(2), |seen| {
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

/// Two objects go one after the other, while readers enter and leave on two processors: the second
/// one waits for readers in the other epoch than the first. Bounded: at most two preemptions.
#[test]
fn readers_of_both_epochs_are_waited_for() {
    let seen = explore(Some(2), |seen| {
        let (space, drops) = space();
        map(&space, 5, 1, object(1, &drops));
        map(&space, 7, 1, object(2, &drops));
        let (space2, space3) = (space.clone(), space.clone());
        let writer = thread::spawn(move || {
            unmap(&space2, 5, 1);
            unmap(&space2, 7, 1);
        });
        let reader = thread::spawn(move || look(&space3, 5, 1));
        let guard = Objects::enter_on(0);
        let found = [5, 7].map(|page| space.try_lookup_pinned(page * PAGE, &guard));
        for (_, object) in found.iter().flatten().flatten() {
            seen.note(read(object) - 1);
        }
        drop(guard);
        seen.note(reader.join().unwrap().map_or(2, |_| 0));
        writer.join().unwrap();
        finish(seen, space, &drops, 2);
    });
    seen.assert_all(5);
}

/// Two last references go at once: each thread drops what it can, and neither twice. Bounded: at
/// most two preemptions.
#[test]
fn two_threads_that_drop_drop_each_object_once() {
    let seen = explore(Some(2), |seen| {
        let (space, drops) = space();
        map(&space, 5, 1, object(1, &drops));
        map(&space, 7, 1, object(2, &drops));
        let spaces = [(space.clone(), 5), (space.clone(), 7)];
        let droppers = spaces.map(|(space, page)| thread::spawn(move || unmap(&space, page, 1)));
        seen.note(look(&space, 7, 0).map_or(2, |number| number / 2));
        for dropper in droppers {
            dropper.join().unwrap();
        }
        finish(seen, space, &drops, 2);
    });
    seen.assert_all(5);
}

/// A reference that is made of a pinned object keeps it, or cannot be made any more.
#[test]
fn what_is_upgraded_stays_or_cannot_be_upgraded() {
    let seen = explore(Some(3), |seen| {
        let (space, drops) = space();
        map(&space, 5, 1, object(1, &drops));
        let space2 = space.clone();
        let writer = thread::spawn(move || unmap(&space2, 5, 1));
        let guard = Objects::enter_on(0);
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
