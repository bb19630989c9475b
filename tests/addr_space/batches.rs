//! Long operations, which release the lock every few VMAs.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use kvma::addr_space::MAX_VMAS_PER_LOCK_HOLD;
use kvma::*;
use kvma_test_support::LockHolds;

use super::{Alloc, PAGE, fixed, new_map, new_space, vmas};

#[test]
fn unmap_releases_the_lock_every_few_vmas() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..1000 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    // It merges with page 10, and is split there.
    space.map(fixed(2, 9, Prot::RW), &mut NoHooks).unwrap();
    let between = |hold| {
        // Behind the batches that have been unmapped: it stays.
        if hold == 3 {
            space.map(fixed(20, 1, Prot::READ), &mut NoHooks).unwrap();
        }
    };
    let mut hooks = LockHolds::new(&between);
    assert_eq!(space.unmap(10 * PAGE, 2000 * PAGE, &mut hooks), Ok(1000 * PAGE));
    assert_eq!(hooks.longest, MAX_VMAS_PER_LOCK_HOLD);
    assert_eq!(hooks.holds, 1000usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD));
    assert_eq!(vmas(&space), [(2, 8), (20, 1)]);
    assert_eq!(alloc.in_use(), 3);
}

/// So that nothing is left to fail: the nodes for it were there, and hooks agreed.
#[test]
fn the_first_batch_splits_at_both_ends() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..200 {
        space.map(fixed(10 + 4 * n, 3, Prot::RW), &mut NoHooks).unwrap();
    }
    let between = |hold| {
        if hold == 1 {
            let vmas = vmas(&space);
            assert_eq!(
                (vmas[0], vmas[vmas.len() - 2..].to_vec()),
                ((10, 1), vec![(806, 1), (807, 2)])
            );
        }
    };
    let removed = space.unmap(11 * PAGE, 796 * PAGE, &mut LockHolds::new(&between));
    assert_eq!(removed, Ok((2 + 198 * 3 + 1) * PAGE));
    assert_eq!(vmas(&space), [(10, 1), (807, 2)]);
}

/// Each batch has a flush of its own, which ends no token elsewhere.
#[test]
fn what_is_mapped_again_while_a_batch_is_flushed_has_dead_tokens() {
    let space = new_space(&Alloc::<()>::default());
    for n in 0..200 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let between = |hold| {
        // Of the batch that is being flushed, and of one that is yet to come.
        let page = 10 + 2 * (hold as u64 - 1) * MAX_VMAS_PER_LOCK_HOLD as u64;
        space.map(fixed(page, 1, Prot::READ), &mut NoHooks).unwrap();
        assert!(space.lookup(page * PAGE).unwrap().token().is_dead(), "hold {hold}");
        if hold < 4 {
            assert!(!space.lookup(408 * PAGE).unwrap().token().is_dead(), "hold {hold}");
        }
    };
    let removed = space.unmap(10 * PAGE, 400 * PAGE, &mut LockHolds::new(&between));
    assert_eq!(removed, Ok(200 * PAGE));
}

/// A lock that lets somebody else in when it is released for the first time after `set` was set.
struct Revolving {
    held: AtomicBool,
    set: &'static AtomicBool,
    enter: fn(),
}

// SAFETY: only one `swap` finds `false` until `release`.
unsafe impl RawLock for Revolving {
    type Token = ();

    fn acquire(&self) {
        self.try_acquire().expect("nobody holds it: there is one thread");
    }
    fn try_acquire(&self) -> Option<()> {
        (!self.held.swap(true, Ordering::Acquire)).then_some(())
    }
    unsafe fn release(&self, (): ()) {
        self.held.store(false, Ordering::Release);
        if self.set.swap(false, Ordering::Relaxed) {
            (self.enter)();
        }
    }
}

/// Others put a VMA across both ends of the range and take every node once the lock is free.
#[test]
fn a_batch_brings_the_nodes_that_it_needs() {
    // One for each VMA, and one for the space.
    static NODES: FixedPool<VmaNode, 101> = FixedPool::new();
    static SET: AtomicBool = AtomicBool::new(false);
    static SPACE: OnceLock<AddrSpace<VmMap<(), &FixedPool<VmaNode, 101>>, Revolving>> =
        OnceLock::new();
    let enter = || {
        SPACE.get().unwrap().update(0, &mut NoHooks, |map, update| {
            map.unmap(10 * PAGE, 200 * PAGE, update).unwrap();
        });
        SPACE
            .get()
            .unwrap()
            .update(0, &mut NoHooks, |map, update| map.map(fixed(8, 300, Prot::READ), update))
            .unwrap();
        while NODES.alloc().is_some() {}
    };
    let lock = Revolving { held: AtomicBool::new(false), set: &SET, enter };
    let map = VmMap::new(PAGE..=0x1_0000_0fff, PageSize::SIZE_4K, &NODES).unwrap();
    let space = SPACE.get_or_init(|| AddrSpace::with_lock(map, lock));
    for n in 0..100 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    SET.store(true, Ordering::Relaxed);
    assert_eq!(space.unmap(10 * PAGE, 200 * PAGE, &mut NoHooks), Ok((64 + 73) * PAGE));
    let left: Vec<_> =
        space.inspect(|map| map.iter().map(|vma| (vma.start() / PAGE, vma.page_count())).collect());
    // The first batch ended at page 137. What came behind it stays.
    assert_eq!(left, [(8, 129), (210, 98)]);
}

/// Another thread maps right behind the batch, and its VMA merges with one that is still to go.
#[test]
fn a_batch_leaves_alone_what_others_have_mapped_behind_it() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..200 {
        // Neighbours differ, so that they stay apart.
        let prot = if n % 2 == 0 { Prot::RW } else { Prot::READ };
        space.map(fixed(10 + n, 1, prot), &mut NoHooks).unwrap();
    }
    let between = |hold| {
        if hold == 1 {
            // Pages 10..74 are gone. Page 74 is still there, read-write.
            space.map(fixed(70, 4, Prot::RW), &mut NoHooks).unwrap();
            assert_eq!(vmas(&space)[0], (70, 5));
        }
    };
    let removed = space.unmap(10 * PAGE, 200 * PAGE, &mut LockHolds::new(&between));
    assert_eq!(removed, Ok(200 * PAGE));
    assert_eq!(vmas(&space), [(70, 4)]);
}

/// The map may be exchanged while the lock is free. Nodes of two allocators must not be mixed.
#[test]
fn a_batch_leaves_a_map_of_another_allocator_alone() {
    let (alloc, other) = (Alloc::default(), Alloc::default());
    let space = new_space(&alloc);
    for n in 0..100 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let former = Cell::new(None);
    let between = |_| {
        let mut map = new_map(&other);
        map.map(fixed(150, 1, Prot::RW), &mut NoHooks).unwrap();
        former.set(Some(space.update(0, &mut NoHooks, |old, _| std::mem::replace(old, map))));
    };
    let removed = space.unmap(10 * PAGE, 2000 * PAGE, &mut LockHolds::new(&between));
    assert_eq!(removed, Err(Error::ForeignNodes));
    assert_eq!(vmas(&space), [(150, 1)]);
    drop(former);
    drop(space);
    assert_eq!((alloc.in_use(), other.in_use()), (0, 0));
}

#[test]
fn clear_and_work_of_the_callers_release_the_lock_every_few_vmas() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..300 {
        space.map(fixed(10 + 2 * n, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let mut hooks = LockHolds::new(&|_| ());
    let lock_all =
        |map: &mut VmMap<(), Alloc>, range: VmRange, update: &mut Update<'_, _, _, _>| {
            let locked = |vma: &Vma<'_, ()>| vma.attrs().locked();
            map.update_attrs(range.start(), range.len().unwrap(), locked, update)
        };
    space.in_batches(0, u64::MAX, 2, &mut hooks, lock_all).unwrap();
    assert_eq!(
        (hooks.longest, hooks.holds),
        (MAX_VMAS_PER_LOCK_HOLD, 300usize.div_ceil(MAX_VMAS_PER_LOCK_HOLD))
    );
    let is_locked = |vma: Vma<'_, ()>| vma.attrs().flags().contains(VmaFlags::LOCKED);
    assert!(space.inspect(|map| map.iter().all(is_locked)));
    assert_eq!(space.clear(&mut hooks), Ok(300 * PAGE));
    assert_eq!(hooks.longest, MAX_VMAS_PER_LOCK_HOLD);
    assert_eq!(alloc.in_use(), 1);
}

/// Hooks that remember what they have prepared, and call `between` after each hold of the lock.
struct Prepares<'a> {
    prepared: Vec<VmRange>,
    unmapped: Vec<VmRange>,
    holds: usize,
    between: &'a dyn Fn(usize),
}

impl Hooks<()> for Prepares<'_> {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, ()>) -> Result<(), Error> {
        self.prepared.push(event.piece().range());
        Ok(())
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        self.unmapped.push(piece.range());
    }

    fn flush_wait(&mut self) {
        self.holds += 1;
        (self.between)(self.holds);
    }
}

/// A later batch split, unprepared, what another thread had merged across its beginning or the end
/// of the range.
#[test]
fn a_later_batch_prepares_what_it_splits() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    for n in 0..200 {
        let prot = if n % 2 == 0 { Prot::RW } else { Prot::READ };
        space.map(fixed(10 + n, 1, prot), &mut NoHooks).unwrap();
    }
    let between = |hold| {
        if hold == 1 {
            // Pages 10..74 are gone. These merge with page 74, and with page 209, the last.
            space.map(fixed(70, 4, Prot::RW), &mut NoHooks).unwrap();
            space.map(fixed(210, 4, Prot::READ), &mut NoHooks).unwrap();
        }
    };
    let mut hooks =
        Prepares { prepared: Vec::new(), unmapped: Vec::new(), holds: 0, between: &between };
    assert_eq!(space.unmap(10 * PAGE, 200 * PAGE, &mut hooks), Ok(200 * PAGE));
    assert!(hooks.holds > 2);
    assert_eq!(vmas(&space), [(70, 4), (210, 4)]);
    for page in [74, 209] {
        let piece = VmRange::new(page * PAGE, PAGE, PageSize::SIZE_4K).unwrap();
        assert!(hooks.unmapped.contains(&piece), "page {page}");
        assert!(hooks.prepared.contains(&piece), "page {page} was split off unprepared");
    }
}
