//! Lookups that pin the user data itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kvma::pinned::{Guard, Pinned, PinnedData, Shared, StaticDomain};
use kvma::*;

use super::{PAGE, Space, fixed, new_space};

const RO: Prot = Prot::READ;

/// Counts the objects that have been dropped.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn object<D: StaticDomain>(&self, number: u64) -> Shared<Object, D> {
        Shared::new(Object { number, drops: self.clone() })
    }
}

struct Object {
    number: u64,
    drops: Drops,
}

impl Drop for Object {
    fn drop(&mut self) {
        self.drops.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn space<D: StaticDomain>() -> Space<Shared<Object, D>> {
    new_space(&Arc::new(BoxAlloc::new()))
}

fn map<D: StaticDomain>(
    space: &Space<Shared<Object, D>>,
    page: u64,
    pages: u64,
    object: Shared<Object, D>,
) {
    space.map(fixed(page, pages, Prot::RW).with_data(object), &mut NoHooks).unwrap();
}

fn unmap<V: VmaData>(space: &Space<V>, page: u64, pages: u64) {
    space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap();
}

/// Returns the number of the object that is found at `page`.
fn number_at<D: StaticDomain>(
    space: &Space<Shared<Object, D>>,
    page: u64,
    guard: &Guard<D>,
) -> Option<u64> {
    let tried = space.try_lookup_pinned(page * PAGE, guard).unwrap();
    let found = space.lookup_pinned(page * PAGE, guard);
    let numbers = [tried, found].map(|found| found.map(|(_, object)| object.number));
    assert_eq!(numbers[0], numbers[1]);
    numbers[0]
}

#[test]
fn the_next_vma_comes_with_its_data() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 3, drops.object(1));
    map(&space, 8, 1, drops.object(2));
    let guard = D::enter();
    let next = |page: u64| {
        let (vma, object) = space.next_vma_pinned(page * PAGE, &guard)?;
        Some((vma.range().start() / PAGE, object.number))
    };
    assert_eq!([1, 7, 8, 9].map(next), [Some((5, 1)), Some((5, 1)), Some((8, 2)), None]);
}

#[test]
fn a_lookup_gives_the_snapshot_and_the_data_itself() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 3, drops.object(1));
    map(&space, 8, 1, drops.object(2));
    let guard = D::enter();
    let (vma, object) = space.lookup_pinned(6 * PAGE + 1, &guard).unwrap();
    assert_eq!((vma.range().start(), vma.range().page_count()), (5 * PAGE, 3));
    assert_eq!(object.number, 1);
    assert!(space.still_valid(vma.token()));
    for (page, number) in [(4, None), (5, Some(1)), (7, Some(1)), (8, Some(2)), (9, None)] {
        assert_eq!(number_at(&space, page, &guard), number);
    }
    // Both halves of a split VMA show the one object, and are merged again.
    space.protect(6 * PAGE, PAGE, RO, &mut NoHooks).unwrap();
    for page in 5..8 {
        assert_eq!(number_at(&space, page, &guard), Some(1));
    }
    space.protect(6 * PAGE, PAGE, Prot::RW, &mut NoHooks).unwrap();
    assert_eq!(super::vmas(&space), [(5, 3), (8, 1)], "different objects do not merge");
}

#[test]
fn without_readers_data_is_dropped_at_once() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 3, drops.object(1));
    drop(D::enter());
    unmap(&space, 5, 1);
    unmap(&space, 7, 1);
    assert_eq!(drops.count(), 0);
    unmap(&space, 6, 1);
    assert_eq!((drops.count(), D::domain().deferred()), (1, 0));
}

#[test]
fn data_waits_for_readers_on_every_processor() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    for cpu in 0..70 {
        map(&space, 5, 1, drops.object(cpu));
        let guard = D::enter_on(cpu as usize);
        let (_, object) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
        unmap(&space, 5, 1);
        assert_eq!(D::collect(), 0);
        assert_eq!((object.number, drops.count()), (cpu, cpu as usize));
        drop(guard);
        assert_eq!(drops.count(), cpu as usize, "leaving drops nothing");
        assert_eq!((D::collect(), D::domain().deferred()), (1, 0));
    }
}

#[test]
fn what_waits_is_dropped_with_the_next_object() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    map(&space, 6, 1, drops.object(2));
    let guard = D::enter();
    unmap(&space, 5, 1);
    drop(guard);
    assert_eq!((drops.count(), D::domain().deferred()), (0, 1));
    unmap(&space, 6, 1);
    assert_eq!((drops.count(), D::domain().deferred()), (2, 0));
}

#[test]
fn those_who_come_later_are_not_waited_for() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let early = D::enter();
    unmap(&space, 5, 1);
    let late = D::enter();
    assert_eq!(D::collect(), 0);
    drop(early);
    assert_eq!((D::collect(), drops.count()), (1, 1));
    drop(late);
}

/// There is a reader at any time, and no end of objects: few of them wait.
#[test]
fn overlapping_readers_keep_nothing_for_ever() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    let mut guard = D::enter();
    for round in 0..1000 {
        map(&space, 5, 1, drops.object(round));
        let next = D::enter();
        assert_eq!(number_at(&space, 5, &guard), Some(round));
        drop(core::mem::replace(&mut guard, next));
        assert!(D::domain().deferred() <= 4, "{:?} in round {round}", D::domain());
    }
    assert!(drops.count() >= 995);
    drop(guard);
    unmap(&space, 5, 1);
    assert_eq!((drops.count(), D::domain().deferred()), (1000, 0));
}

#[test]
fn guards_nest_and_leave_on_other_threads() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let outer = D::enter();
    let inner = D::enter();
    let (_, object) = space.lookup_pinned(5 * PAGE, &outer).unwrap();
    drop(inner);
    unmap(&space, 5, 1);
    thread::scope(|scope| {
        let collector = scope.spawn(|| assert_eq!((D::collect(), object.number), (0, 1)));
        collector.join().unwrap();
    });
    thread::spawn(move || drop(outer)).join().unwrap();
    assert_eq!((D::collect(), drops.count()), (1, 1));
}

#[test]
fn a_reference_outlives_the_guard_unless_it_comes_too_late() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let guard = D::enter();
    let (_, object) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    let held = Pinned::upgrade(object).unwrap();
    unmap(&space, 5, 1);
    let more = Pinned::upgrade(object).unwrap();
    assert!(more == held);
    drop(guard);
    assert_eq!((D::collect(), more.number, drops.count()), (0, 1, 0));
    drop(more);
    let guard = D::enter();
    let object = Shared::pin(&held, &guard);
    drop(held);
    assert_eq!((object.number, drops.count()), (1, 0));
    assert!(Pinned::upgrade(object).is_none());
    drop(guard);
    assert_eq!((D::collect(), drops.count()), (1, 1));
}

#[test]
fn drop_later_drops_nothing_now() {
    pinned_domain! { struct D; }
    let drops = Drops::default();
    let object = drops.object::<D>(1);
    Shared::drop_later(object.clone());
    assert_eq!(D::domain().deferred(), 0, "not the last one");
    Shared::drop_later(object);
    assert_eq!((drops.count(), D::domain().deferred()), (0, 1));
    assert_eq!((D::collect(), drops.count()), (1, 1));
}

/// Objects that hold objects, as a file holds its file system.
#[test]
fn a_drop_may_drop_more() {
    pinned_domain! { struct D; }
    struct Chain {
        drops: Drops,
        _next: Option<Shared<Chain, D>>,
    }
    impl Drop for Chain {
        fn drop(&mut self) {
            self.drops.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let drops = Drops::default();
    let chain = |len| {
        (0..len).fold(None, |next, _| {
            Some(Shared::<_, D>::new(Chain { drops: drops.clone(), _next: next }))
        })
    };
    drop(chain(10));
    assert_eq!(drops.count(), 10);
    let guard = D::enter();
    drop(chain(10));
    assert_eq!((drops.count(), D::domain().deferred()), (10, 1));
    drop(guard);
    assert_eq!(D::collect(), 1, "those inside go at once");
    assert_eq!((drops.count(), D::domain().deferred()), (20, 0));
}

#[test]
fn domains_do_not_wait_for_each_other() {
    pinned_domain! { struct One; }
    pinned_domain! { struct Other; }
    let (space, drops) = (space::<One>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let guard = Other::enter();
    unmap(&space, 5, 1);
    assert_eq!(drops.count(), 1);
    drop(guard);
}

/// The VMA stays where it is, and its data goes.
#[test]
fn data_that_is_replaced_stays_for_readers() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let guard = D::enter();
    let (vma, object) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    let replace = |with: Shared<Object, D>, panics: bool| {
        space.update(0, &mut NoHooks, |map, _| {
            map.update_data(5 * PAGE, |data| {
                // No reader finds the old one from here on, also not in the middle of this.
                assert!(space.try_lookup_pinned(5 * PAGE, &guard).is_err());
                *data = with;
                assert!(!panics, "as told");
            })
        })
    };
    replace(drops.object(2), false).unwrap();
    assert!(!space.still_valid(vma.token()));
    assert_eq!((object.number, number_at(&space, 5, &guard)), (1, Some(2)));
    // A panic leaves what the data is by then.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = replace(drops.object(3), true);
    }));
    assert!(panicked.is_err());
    assert_eq!(number_at(&space, 5, &guard), Some(3));
    assert_eq!((drops.count(), D::domain().deferred()), (0, 2));
    drop(guard);
    assert_eq!((D::collect(), drops.count()), (2, 2));
}

#[test]
fn readers_outlive_the_space() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let child = AddrSpace::new(space.inspect(|map| {
        let copy = |vma: &Vma<'_, Shared<Object, D>>| {
            Ok::<_, Error>(Some((vma.attrs(), vma.data().fork(vma.range()))))
        };
        map.fork(map.alloc().clone(), copy).unwrap()
    }));
    let guard = D::enter();
    drop(space);
    let (_, object) = child.lookup_pinned(5 * PAGE, &guard).unwrap();
    drop(child);
    assert_eq!((object.number, drops.count()), (1, 0));
    drop(guard);
    assert_eq!((D::collect(), drops.count()), (1, 1));
}

/// User data in which only some VMAs have something to pin.
#[test]
fn a_struct_with_a_shared_object_in_it_is_pinned_too() {
    pinned_domain! { struct D; }

    #[derive(Clone, PartialEq)]
    struct Memory(Option<Shared<Object, D>>);

    impl VmaData for Memory {
        fn split(&mut self, _: VmRange, _: u64) -> Self {
            self.clone()
        }
        fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
            self == right
        }
        fn fork(&self, _: VmRange) -> Self {
            self.clone()
        }
        fn key(&self) -> u64 {
            self.0.as_ref().map_or(0, VmaData::key)
        }
    }

    // SAFETY: the key is 0 or that of the object in `self`, which is exchanged by `&mut` alone.
    unsafe impl PinnedData for Memory {
        type Guard = Guard<D>;
        type Ref<'g> = Option<Pinned<'g, Object, D>>;

        unsafe fn from_key(key: u64, guard: &Guard<D>) -> Self::Ref<'_> {
            // SAFETY: the caller's; a key that is not 0 is an object's.
            (key != 0).then(|| unsafe { Shared::from_key(key, guard) })
        }
    }

    let space: Space<Memory> = new_space(&Arc::new(BoxAlloc::new()));
    let drops = Drops::default();
    let request = |page, object| fixed(page, 1, Prot::RW).with_data(Memory(object));
    space.map(request(5, None), &mut NoHooks).unwrap();
    space.map(request(6, Some(drops.object(1))), &mut NoHooks).unwrap();
    let guard = D::enter();
    assert!(space.lookup_pinned(5 * PAGE, &guard).unwrap().1.is_none());
    let object = space.lookup_pinned(6 * PAGE, &guard).unwrap().1.unwrap();
    unmap(&space, 5, 2);
    assert!(space.lookup_pinned(6 * PAGE, &guard).is_none());
    assert_eq!((object.number, drops.count()), (1, 0));
}

#[test]
fn a_pinned_lookup_may_be_made_while_the_lock_is_held() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    let guard = D::enter();
    space.inspect(|_| {
        assert_eq!(space.try_lookup_pinned(5 * PAGE, &guard).unwrap().unwrap().1.number, 1);
        assert!(space.try_lookup_pinned(6 * PAGE, &guard).unwrap().is_none());
    });
}

/// Hooks run under the lock: what they look up is pinned, and what they see removed stays.
#[test]
fn a_pinned_lookup_may_be_made_in_a_hook() {
    pinned_domain! { struct D; }
    let (space, drops) = (space::<D>(), Drops::default());
    map(&space, 5, 1, drops.object(1));
    map(&space, 8, 1, drops.object(2));
    let guard = D::enter();
    let look = |page| space.try_lookup_pinned(page * PAGE, &guard);
    let mut seen = Vec::new();
    let mut hooks = on_event(|event: Event<'_, Shared<Object, D>>| {
        let here = look(5).map(|found| found.map(|(_, object)| object.number));
        let elsewhere = look(8).unwrap().unwrap().1.number;
        seen.push((matches!(event, Event::Protect { .. }), here, elsewhere));
    });
    space.protect(5 * PAGE, PAGE, RO, &mut hooks).unwrap();
    space.unmap(5 * PAGE, PAGE, &mut hooks).unwrap();
    // That nothing is mapped cannot be told while the change is under way.
    assert_eq!(seen, [(true, Ok(Some(1)), 2), (false, Err(addr_space::Busy), 2)]);
    assert_eq!((drops.count(), D::domain().deferred()), (0, 1));
}

/// Here, to objects that are never freed.
#[test]
fn a_kernel_may_pin_its_own_pointers_by_its_own_guards() {
    static NUMBER: u64 = 77;

    /// Proof that a read side of the kernel's own has been entered.
    struct ReadSection;

    #[derive(Clone, Copy, PartialEq)]
    struct Static(&'static u64);

    impl VmaData for Static {
        fn split(&mut self, _: VmRange, _: u64) -> Self {
            *self
        }
        fn can_merge(&self, _: VmRange, right: &Self, _: VmRange) -> bool {
            self == right
        }
        fn fork(&self, _: VmRange) -> Self {
            *self
        }
        fn key(&self) -> u64 {
            core::ptr::from_ref(self.0).expose_provenance() as u64
        }
    }

    // SAFETY: targets live for ever, and the key is the address of one.
    unsafe impl PinnedData for Static {
        type Guard = ReadSection;
        type Ref<'g> = &'g u64;

        unsafe fn from_key(key: u64, _: &ReadSection) -> &u64 {
            // SAFETY: the key of a value, which is the address of a number that lives for ever.
            unsafe { &*core::ptr::with_exposed_provenance(key as usize) }
        }
    }

    let space: Space<Static> = new_space(&Arc::new(BoxAlloc::new()));
    space.map(fixed(5, 1, Prot::RW).with_data(Static(&NUMBER)), &mut NoHooks).unwrap();
    let guard = ReadSection;
    let (_, number) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    unmap(&space, 5, 1);
    assert_eq!(*number, 77);
}
