//! Removed data is dropped after unlock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kvma::vm_map::SourceRange;
use kvma::*;

use super::{Alloc, PAGE, Space, fixed, new_space};

/// User data whose drop takes the lock of the space.
#[derive(Clone)]
struct Nosy(Arc<Mutex<Option<Arc<Space<Nosy>>>>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(space) = &*self.0.lock().unwrap() {
            space.inspect(|_| ());
        }
    }
}

impl VmaData for Nosy {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _: VmRange, _: &Self, _: VmRange) -> bool {
        false
    }

    fn fork(&self, _: VmRange) -> Self {
        self.clone()
    }
}

#[test]
fn user_data_may_take_the_lock_when_it_is_dropped() {
    let alloc = Alloc::default();
    let space = Arc::new(new_space::<Nosy>(&alloc));
    let nosy = Nosy(Arc::new(Mutex::new(Some(space.clone()))));
    let request = |page, pages| fixed(page, pages, Prot::RW).with_data(nosy.clone());
    for n in 0..100 {
        space.map(request(10 + 2 * n, 1), &mut NoHooks).unwrap();
    }
    space.map(request(5, 5), &mut NoHooks).unwrap();
    space.map(request(7, 1), &mut NoHooks).unwrap();
    space.unmap(8 * PAGE, PAGE, &mut NoHooks).unwrap();
    let claim = space.claim(Placement::Fixed(6 * PAGE), PAGE, &mut NoHooks).unwrap();
    claim.commit(Attrs::new(Prot::RW), nosy.clone(), &mut NoHooks).unwrap();
    drop(space.claim(Placement::Fixed(6 * PAGE), PAGE, &mut NoHooks).unwrap());
    space.clear(&mut NoHooks).unwrap();
    nosy.0.lock().unwrap().take();
}

/// User data whose `Drop` takes the lock of the space that it was in.
#[derive(Clone)]
struct TakesLock(Option<Arc<dyn Fn() + Send + Sync>>);

impl Drop for TakesLock {
    fn drop(&mut self) {
        if let Some(look) = &self.0 {
            look();
        }
    }
}

impl VmaData for TakesLock {
    fn split(&mut self, _: VmRange, _: u64) -> Self {
        self.clone()
    }

    fn can_merge(&self, _: VmRange, _: &Self, _: VmRange) -> bool {
        true
    }

    fn fork(&self, _: VmRange) -> Self {
        self.clone()
    }
}

#[test]
fn user_data_is_dropped_after_unlock() {
    let space: &'static Space<TakesLock> = Box::leak(Box::new(new_space(&Alloc::default())));
    let drops = Arc::new(AtomicUsize::new(0));
    let data = || {
        let drops = drops.clone();
        TakesLock(Some(Arc::new(move || {
            space.inspect(|map| map.len());
            drops.fetch_add(1, Ordering::Relaxed);
        })))
    };
    let count = || drops.swap(0, Ordering::Relaxed);
    let mut hooks = NoHooks;
    space.map(fixed(4, 2, Prot::RW).with_data(data()), &mut hooks).unwrap();
    assert_eq!(count(), 0);
    // Merges to the left, to the right, and both.
    space.map(fixed(6, 1, Prot::RW).with_data(data()), &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.map(fixed(3, 1, Prot::RW).with_data(data()), &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.map(fixed(8, 1, Prot::RW).with_data(data()), &mut hooks).unwrap();
    space.map(fixed(7, 1, Prot::RW).with_data(data()), &mut hooks).unwrap();
    assert_eq!(count(), 2);
    // Fails: the range is in use, no range, no prepare.
    let no_replace = MapRequest::new(Placement::FixedNoReplace(4 * PAGE), PAGE, Attrs::default());
    assert_eq!(space.map(no_replace.with_data(data()), &mut hooks), Err(Error::Overlap));
    assert_eq!(count(), 1);
    struct Refuses;
    impl Hooks<TakesLock> for Refuses {
        type Error = Error;

        fn prepare(&mut self, _: &Event<'_, TakesLock>) -> Result<(), Error> {
            Err(Error::OutOfMemory)
        }
    }
    assert_eq!(
        space.map(fixed(20, 1, Prot::RW).with_data(data()), &mut Refuses),
        Err(Error::OutOfMemory)
    );
    assert_eq!(count(), 1);
    let claim = space.claim(Placement::Fixed(30 * PAGE), PAGE, &mut hooks).unwrap();
    assert!(claim.commit(Attrs::default(), data(), &mut Refuses).is_err());
    assert_eq!(count(), 1);
    // A part of a fork is too much.
    let keep = SourceRange::Keep;
    space.relocate(4 * PAGE, PAGE, 40 * PAGE, keep, Merge::Never, &mut hooks).unwrap();
    assert_eq!(count(), 2);
    // Removed ones, in the middle and whole.
    space.unmap(5 * PAGE, PAGE, &mut hooks).unwrap();
    assert_eq!(count(), 1);
    space.protect(3 * PAGE, PAGE, Prot::READ, &mut hooks).unwrap();
    space.protect(3 * PAGE, PAGE, Prot::RW, &mut hooks).unwrap();
    assert_eq!(count(), 1);
    // A fork that fails half-way.
    let mut copied = 0;
    let failed = space.fork(space.inspect(|map| map.alloc().clone()), &mut hooks, |_, vma| {
        copied += 1;
        if copied == 3 {
            return Err(Error::OutOfMemory);
        }
        Ok(Some((vma.attrs(), vma.data().fork(vma.range()))))
    });
    assert_eq!(failed.err(), Some(Error::OutOfMemory));
    assert_eq!(count(), 2);
}

#[test]
fn data_of_many_failing_calls_is_dropped_after_unlock() {
    let space: &'static Space<TakesLock> = Box::leak(Box::new(new_space(&Alloc::default())));
    let drops = Arc::new(AtomicUsize::new(0));
    space.map(fixed(4, 2, Prot::RW).with_data(TakesLock(None)), &mut NoHooks).unwrap();
    space.update(0, &mut NoHooks, |map, update| {
        for _ in 0..20 {
            let counted = drops.clone();
            let data = TakesLock(Some(Arc::new(move || {
                space.inspect(|map| map.len());
                counted.fetch_add(1, Ordering::Relaxed);
            })));
            let taken = Placement::FixedNoReplace(4 * PAGE);
            let request = MapRequest::new(taken, PAGE, Attrs::default()).with_data(data);
            assert_eq!(map.map(request, update), Err(Error::Overlap));
        }
        assert_eq!(drops.load(Ordering::Relaxed), 0);
    });
    assert_eq!(drops.load(Ordering::Relaxed), 20);
}

/// Without any node to keep it in, data of calls that fail is dropped at once, from the fifth of an
/// update on: it cannot wait, and to lose references would be worse.
#[test]
fn data_of_many_failing_calls_is_not_lost_without_memory() {
    static POOL: FixedPool<VmaNode<TakesLock>, 2> = FixedPool::new();
    let map = VmMap::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, &POOL).unwrap();
    let space = AddrSpace::new(map);
    space.map(fixed(4, 2, Prot::RW).with_data(TakesLock(None)), &mut NoHooks).unwrap();
    let drops = Arc::new(AtomicUsize::new(0));
    space.update(0, &mut NoHooks, |map, update| {
        for _ in 0..20 {
            let counted = drops.clone();
            let data = TakesLock(Some(Arc::new(move || {
                counted.fetch_add(1, Ordering::Relaxed);
            })));
            let taken = Placement::FixedNoReplace(4 * PAGE);
            let request = MapRequest::new(taken, PAGE, Attrs::default()).with_data(data);
            assert_eq!(map.map(request, update), Err(Error::Overlap));
        }
        assert_eq!(drops.load(Ordering::Relaxed), 16);
    });
    assert_eq!(drops.load(Ordering::Relaxed), 20);
}
