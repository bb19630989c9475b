//! Readers look at the objects behind VMAs while other threads map, split, replace and unmap them:
//! nobody ever reads an object that was dropped, and in the end all are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use kvma::pinned::{Guard, Pinned, Shared, StaticDomain};
use kvma::*;
use kvma_test_support::{
    Random, StopOnDrop, Yielding, YieldingMutex, env_number, one_at_a_time, stress_duration,
};

pinned_domain! { struct Objects; }

type Data = Shared<Object, Objects>;
type Space = AddrSpace<VmMap<Data, Arc<BoxAlloc<VmaNode<Data>>>>, Yielding>;

const PAGE: u64 = 0x1000;
const PAGES: u64 = 32;
const ALIVE: usize = 0x600d_600d;
const DROPPED: usize = 0xdead_dead;

/// Objects that exist.
static OBJECTS: AtomicUsize = AtomicUsize::new(0);

struct Object {
    state: AtomicUsize,
    /// The number that is also in the VMA's user bits.
    tag: u64,
}

impl Object {
    fn new(tag: u64) -> Data {
        OBJECTS.fetch_add(1, Ordering::Relaxed);
        Shared::new(Object { state: AtomicUsize::new(ALIVE), tag })
    }

    fn check(&self, tag: u64) {
        assert_eq!(self.state.load(Ordering::Relaxed), ALIVE, "dropped under a reader");
        assert_eq!(self.tag, tag, "another VMA's object");
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        assert_eq!(self.state.swap(DROPPED, Ordering::Relaxed), ALIVE, "dropped twice");
        OBJECTS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn seed(thread: u64) -> Random {
    Random::new(env_number::<u64>("KVMA_SEED").unwrap_or(1).wrapping_mul(100) + thread)
}

fn change(space: &Space, random: &mut Random, tag: u64) {
    let first = random.below(PAGES);
    let (addr, len) = (first * PAGE, (1 + random.below(PAGES - first)) * PAGE);
    let prot = if random.below(2) == 0 { Prot::RW } else { Prot::READ };
    match random.below(6) {
        0 | 1 => {
            let attrs = Attrs::new(prot).with_user_bits(tag);
            let request = MapRequest::new(Placement::Fixed(addr), len, attrs);
            space.map(request.with_data(Object::new(tag)), &mut NoHooks).map(drop).unwrap();
        }
        2 => drop(space.protect(addr, len, prot, &mut NoHooks)),
        3 => {
            // The VMA stays, with another object of the same tag.
            let replaced = space.update(0, &mut NoHooks, |map, _| {
                map.update_data(addr, |data| core::mem::replace(data, Object::new(data.tag)))
            });
            replaced.map(Shared::drop_later).unwrap_or(());
        }
        4 => {
            let _ = space.update(0, &mut NoHooks, |map, _| {
                map.update_data(addr, |data| *data = Object::new(data.tag))
            });
        }
        _ => drop(space.unmap(addr, len, &mut NoHooks)),
    }
}

/// Looks one page up and reads its object for a while. Returns `true` if there was one.
fn read(space: &Space, random: &mut Random, guard: &Guard<Objects>) -> bool {
    let addr = random.below(PAGES) * PAGE;
    let found = space.try_lookup_pinned(addr, guard);
    let Some((vma, object)) = found.unwrap_or_else(|_| space.lookup_pinned(addr, guard)) else {
        return false;
    };
    let tag = vma.attrs().user_bits();
    for _ in 0..random.below(16) {
        object.check(tag);
        std::hint::spin_loop();
    }
    if random.below(16) == 0
        && let Some(held) = Pinned::upgrade(object)
    {
        std::thread::yield_now();
        held.check(tag);
    }
    object.check(tag);
    true
}

#[test]
fn nobody_reads_what_was_dropped() {
    let _alone = one_at_a_time();
    let map = VmMap::new(0..=PAGES * PAGE - 1, PageSize::SIZE_4K, Arc::default()).unwrap();
    let space: Space = AddrSpace::with_lock(map, Yielding::default());
    let (stop, end) = (AtomicBool::new(false), Instant::now() + stress_duration());
    let most_deferred = std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let (space, stop) = (&space, &stop);
        let readers = [1, 2].map(|thread| {
            scope.spawn(move || {
                let (mut random, mut found) = (seed(thread), 0u64);
                // One guard always overlaps the next.
                let mut guard = Objects::enter();
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..random.below(8) {
                        found += u64::from(read(space, &mut random, &guard));
                    }
                    guard = Objects::enter_on(thread as usize);
                }
                drop(guard);
                found
            })
        });
        let writer = scope.spawn(move || {
            let (mut random, mut changes) = (seed(3), 0);
            while !stop.load(Ordering::Relaxed) {
                changes += 1;
                change(space, &mut random, changes << 1);
            }
            changes
        });
        let (mut random, mut changes, mut most_deferred) = (seed(4), 0, 0);
        while Instant::now() < end && !writer.is_finished() {
            for _ in 0..64 {
                changes += 1;
                change(space, &mut random, changes << 1 | 1);
                most_deferred = most_deferred.max(Objects::domain().deferred());
            }
            Objects::collect();
        }
        drop(stopping);
        let changes = changes + writer.join().unwrap();
        let found = readers.map(|reader| reader.join().unwrap());
        println!("{found:?} found; {changes} changes; at most {most_deferred} objects waited");
        assert!(found.iter().all(|&found| found > 0));
        most_deferred
    });
    assert!(most_deferred > 0, "no object had to wait for a reader");
    space.inspect(|map| map.check()).unwrap();
    drop(space);
    Objects::collect();
    assert_eq!((OBJECTS.load(Ordering::Relaxed), Objects::domain().deferred()), (0, 0));
}

/// Two threads drop a reference each, about when the other does: whichever is last frees what both
/// have read. ThreadSanitizer took that for a race, because it does not know fences.
#[test]
fn either_thread_drops_the_last_reference() {
    let _alone = one_at_a_time();
    pinned_domain! { struct Passed; }

    let passed = YieldingMutex::new(None::<Shared<u64, Passed>>);
    // Order nothing: the references alone do.
    let (given, taken) = (AtomicU64::new(0), AtomicU64::new(0));
    let (stop, end) = (AtomicBool::new(false), Instant::now() + stress_duration() / 4);
    let running = || !stop.load(Ordering::Relaxed) && Instant::now() < end;
    let take = || {
        let (_stopping, mut random) = (StopOnDrop(&stop), seed(5));
        while running() {
            let number = taken.load(Ordering::Relaxed) + 1;
            if given.load(Ordering::Relaxed) != number {
                std::thread::yield_now();
                continue;
            }
            let object = passed.lock().take().unwrap();
            taken.store(number, Ordering::Relaxed);
            (0..random.below(64)).for_each(|_| std::hint::spin_loop());
            assert_eq!(*object, number);
        }
    };
    let give = || {
        let (_stopping, mut random, mut number) = (StopOnDrop(&stop), seed(6), 0);
        while running() {
            number += 1;
            let object = Shared::new(number);
            *passed.lock() = Some(object.clone());
            given.store(number, Ordering::Relaxed);
            while taken.load(Ordering::Relaxed) != number && running() {
                std::thread::yield_now();
            }
            (0..random.below(64)).for_each(|_| std::hint::spin_loop());
            assert_eq!(*object, number);
        }
        number
    };
    let objects = std::thread::scope(|scope| {
        let (taker, giver) = (scope.spawn(take), scope.spawn(give));
        taker.join().unwrap();
        giver.join().unwrap()
    });
    println!("{objects} objects");
    assert!(objects > 1);
    drop(passed);
    assert_eq!(Passed::domain().deferred(), 0);
}
