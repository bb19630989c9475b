//! Lookups that give the user data itself, which a guard keeps in place.

use super::{Alloc, PAGE, Space, fixed, new_space, vmas};
use kvma::pinned::{Guard, Pinned, PinnedData, Shared, StaticDomain};
use kvma::*;
use kvma_test_support::StopOnDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts its drops.
struct File {
    number: u64,
    drops: Arc<AtomicUsize>,
}

impl Drop for File {
    fn drop(&mut self) {
        self.number = u64::MAX;
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

/// Domains are statics: each test declares its own, so that no other test reads in it meanwhile.
fn file<D: StaticDomain>(number: u64, drops: &Arc<AtomicUsize>) -> Shared<File, D> {
    Shared::new(File { number, drops: drops.clone() })
}

fn map<V: VmaData>(space: &Space<V>, page: u64, pages: u64, data: V) {
    space.map(fixed(page, pages, Prot::RW).with_data(data), &mut NoHooks).unwrap();
}

fn unmap<V: VmaData>(space: &Space<V>, page: u64, pages: u64) {
    space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap();
}

#[test]
fn without_readers_the_last_vma_drops_the_object_at_once() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 2, file::<Files>(1, &drops));
    unmap(&space, 5, 1);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    unmap(&space, 6, 1);
    assert_eq!((drops.load(Ordering::SeqCst), Files::domain().deferred()), (1, 0));
}

#[test]
fn what_a_guard_pins_outlives_its_vma_and_not_the_guard() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 2, file::<Files>(1, &drops));

    let guard = Files::enter();
    let (vma, pinned) = space.lookup_pinned(6 * PAGE, &guard).unwrap();
    assert_eq!((vma.range().start(), vma.range().last()), (5 * PAGE, 7 * PAGE - 1));
    assert!(space.lookup_pinned(7 * PAGE, &guard).is_none());
    unmap(&space, 5, 2);
    assert!(!space.still_valid(vma.token()));
    assert!(space.lookup_pinned(6 * PAGE, &guard).is_none());
    // A timer asks now and then, and the reader has not left.
    assert_eq!(Files::collect(), 0);
    assert_eq!((pinned.number, drops.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(Files::domain().deferred(), 1);

    drop(guard);
    assert_eq!(drops.load(Ordering::SeqCst), 0, "the drop of a guard runs nobody's code");
    assert_eq!(Files::collect(), 1);
    assert_eq!((drops.load(Ordering::SeqCst), Files::domain().deferred()), (1, 0));
}

#[test]
fn what_waits_is_dropped_with_the_next_object_too() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    map(&space, 7, 1, file::<Files>(2, &drops));
    let guard = Files::enter();
    unmap(&space, 5, 1);
    drop(guard);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    unmap(&space, 7, 1);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn an_upgrade_outlives_the_guard_unless_the_last_reference_was_gone() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    let guard = Files::enter();
    let (_, pinned) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    let held = Pinned::upgrade(pinned).unwrap();
    drop(guard);
    unmap(&space, 5, 1);
    assert_eq!(held.number, 1);

    let guard = Files::enter();
    let pinned = Shared::pin(&held, &guard);
    drop(held);
    assert_eq!(pinned.number, 1);
    assert!(Pinned::upgrade(pinned).is_none());
    drop(guard);
    assert_eq!(Files::collect(), 1);
}

/// Where nothing may be dropped: in an interrupt handler, for example.
#[test]
fn an_object_may_be_given_up_to_be_dropped_later() {
    pinned_domain! { struct Files; }
    let drops = Arc::default();
    Shared::drop_later(file::<Files>(1, &drops));
    assert_eq!((drops.load(Ordering::SeqCst), Files::domain().deferred()), (0, 1));
    assert_eq!(Files::collect(), 1);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

/// They are in the other of the domain's two epochs by the time that the first one has left.
#[test]
fn readers_who_come_one_after_the_other_keep_nothing() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    let mut reader = Files::enter_on(0);
    unmap(&space, 5, 1);
    let mut rounds = 0;
    while drops.load(Ordering::SeqCst) == 0 {
        let next = Files::enter_on(0);
        drop(core::mem::replace(&mut reader, next));
        Files::collect();
        rounds += 1;
        assert!(rounds < 10);
    }
}

#[test]
fn readers_of_one_domain_keep_nothing_of_another_one() {
    pinned_domain! { struct Files; }
    pinned_domain! { struct Devices; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    let _guard = Devices::enter();
    unmap(&space, 5, 1);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn parts_of_a_vma_and_forks_share_one_object() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 4, file::<Files>(1, &drops));
    space.protect(6 * PAGE, PAGE, Prot::READ, &mut NoHooks).unwrap();
    assert_eq!(vmas(&space), [(5, 1), (6, 1), (7, 2)]);
    let child = space.inspect(|map| {
        map.fork(map.alloc().clone(), |vma| {
            Ok::<_, Error>(Some((vma.attrs(), vma.data().fork(vma.range()))))
        })
    });
    let child = AddrSpace::new(child.unwrap());
    let guard = Files::enter();
    let first = space.lookup_pinned(5 * PAGE, &guard).unwrap().1;
    let file: &File = Pinned::get(first);
    for space in [&space, &child] {
        for page in 5..9 {
            let (_, other) = space.lookup_pinned(page * PAGE, &guard).unwrap();
            assert!(core::ptr::eq(Pinned::get(other), file));
        }
    }
    drop(guard);
    space.protect(6 * PAGE, PAGE, Prot::RW, &mut NoHooks).unwrap();
    assert_eq!(vmas(&space), [(5, 4)]);
    unmap(&space, 5, 4);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    drop(child);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn data_that_is_exchanged_stays_while_it_is_pinned() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    let guard = Files::enter();
    let (vma, old) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    let other = file(2, &drops);
    space
        .update(0, &mut NoHooks, |map, _| map.update_data(5 * PAGE, |data| *data = other))
        .unwrap();
    assert!(!space.still_valid(vma.token()));
    let (_, new) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    assert_eq!((old.number, new.number), (1, 2));
    drop(guard);
    assert_eq!(Files::collect(), 1);
    assert_eq!(space.lookup_pinned(5 * PAGE, &Files::enter()).unwrap().1.number, 2);
}

#[test]
fn a_pinned_lookup_may_be_made_while_the_lock_is_held() {
    pinned_domain! { struct Files; }
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, file::<Files>(1, &drops));
    let guard = Files::enter();
    space.inspect(|_| {
        let (_, found) = space.try_lookup_pinned(5 * PAGE, &guard).unwrap().unwrap();
        assert_eq!(found.number, 1);
        assert!(space.try_lookup_pinned(6 * PAGE, &guard).unwrap().is_none());
    });
}

pinned_domain! { struct Mixed; }

/// Anonymous memory, or a file.
#[derive(Clone, PartialEq)]
struct Memory(Option<Shared<File, Mixed>>);

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

// SAFETY: the key is 0 or that of the `Shared` in `self`, which is exchanged through `&mut` only.
unsafe impl PinnedData for Memory {
    type Guard = Guard<Mixed>;
    type Ref<'g> = Option<Pinned<'g, File, Mixed>>;

    unsafe fn from_key(key: u64, guard: &Guard<Mixed>) -> Self::Ref<'_> {
        // SAFETY: the caller's; a key that is not 0 is that of a `Shared`.
        (key != 0).then(|| unsafe { Shared::from_key(key, guard) })
    }
}

#[test]
fn a_struct_with_a_shared_object_in_it_is_pinned_too() {
    let (space, drops) = (new_space(&Alloc::default()), Arc::default());
    map(&space, 5, 1, Memory(Some(file(1, &drops))));
    map(&space, 6, 1, Memory(None));
    let guard = Mixed::enter();
    let found = [5, 6].map(|page| space.lookup_pinned(page * PAGE, &guard).unwrap().1);
    unmap(&space, 5, 2);
    assert_eq!(found.map(|file| file.map(|file| file.number)), [Some(1), None]);
}

/// A kernel's own pointer type: here, to objects that are never freed.
#[derive(Clone, Copy, PartialEq)]
struct Static(&'static u64);

/// Proof that the kernel's own read side has been entered.
struct ReadSection;

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

#[test]
fn a_kernel_may_pin_its_own_pointers_with_its_own_guards() {
    static NUMBER: u64 = 77;
    let space = new_space(&Alloc::default());
    map(&space, 5, 1, Static(&NUMBER));
    let guard = ReadSection;
    let (_, number) = space.lookup_pinned(5 * PAGE, &guard).unwrap();
    unmap(&space, 5, 1);
    assert_eq!(*number, 77);
}

/// `tests/loom` goes through the interleavings of less.
#[test]
fn nothing_is_dropped_under_readers_on_other_threads() {
    pinned_domain! { struct Files; }
    const OBJECTS: u64 = 2000;
    let space = new_space::<Shared<File, Files>>(&Alloc::default());
    let drops = Arc::default();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let guard = Files::enter();
                    let found = [5, 6].map(|page| space.lookup_pinned(page * PAGE, &guard));
                    std::thread::yield_now();
                    for (_, file) in found.iter().flatten() {
                        assert!(file.number < OBJECTS, "dropped under a reader");
                    }
                }
            });
        }
        let _stop = StopOnDrop(&stop);
        for number in 0..OBJECTS {
            map(&space, 5, 2, file::<Files>(number, &drops));
            if number % 3 == 0 {
                space.protect(6 * PAGE, PAGE, Prot::READ, &mut NoHooks).unwrap();
            }
        }
        unmap(&space, 5, 2);
    });
    Files::collect();
    assert_eq!(drops.load(Ordering::SeqCst), OBJECTS as usize);
    assert_eq!(Files::domain().deferred(), 0);
}
