//! Lookups without the lock, as one processor sees them. `tests/loom` has several.

use kvma::addr_space::Busy;
use kvma::*;
use kvma_test_support::{Phase, phases};

const RO: Prot = Prot::READ;

fn space(pool: &FixedPool<VmaNode, 64>) -> AddrSpace<VmMap<(), &FixedPool<VmaNode, 64>>> {
    AddrSpace::new(VmMap::new(0x1000..=0x100_0fff, PageSize::SIZE_4K, pool).unwrap())
}

fn fixed(start: u64, len: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(start), len, Attrs::new(prot))
}

#[test]
fn a_lookup_copies_the_vma() {
    let pool = FixedPool::new();
    let space = space(&pool);
    let file =
        Attrs::new(RO).with_backing(Backing::Object { id: 9, offset: 0x5000 }).with_user_bits(77);
    space.map(MapRequest::new(Placement::Fixed(0x5000), 0x3000, file), &mut NoHooks).unwrap();
    for addr in [0x5000, 0x6123, 0x7fff] {
        let vma = space.lookup(addr).unwrap();
        assert_eq!((vma.range().start(), vma.range().last()), (0x5000, 0x7fff));
        assert_eq!(vma.attrs(), file);
        assert!(!vma.token().is_dead());
        assert!(space.still_valid(vma.token()));
    }
    let here = space.lookup(0x6123).unwrap().attrs_at(0x6123);
    assert_eq!(here.backing(), Backing::Object { id: 9, offset: 0x6000 });
    for addr in [0, 0x4fff, 0x8000, u64::MAX] {
        assert!(space.lookup(addr).is_none());
        assert_eq!(space.try_lookup(addr).map(|found| found.is_none()), Ok(true));
    }
}

#[test]
fn a_token_ends_with_its_vma_and_not_before() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x2000, Prot::RW), &mut NoHooks).unwrap();
    }
    let token = *space.lookup(0x5000).unwrap().token();
    // Changes elsewhere, even next door, leave it valid.
    space.protect(0x9000, 0x1000, RO, &mut NoHooks).unwrap();
    space.unmap(0x9000, 0x2000, &mut NoHooks).unwrap();
    space.map(fixed(0x7000, 0x1000, RO), &mut NoHooks).unwrap();
    assert!(space.still_valid(&token));
    // A change that is taken back is a change.
    space.protect(0x5000, 0x2000, RO, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token));
    space.protect(0x5000, 0x2000, Prot::RW, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token));
    let token = *space.lookup(0x5000).unwrap().token();
    space.unmap(0x6000, 0x1000, &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token), "split");
    let token = *space.lookup(0x5000).unwrap().token();
    space.map(fixed(0x6000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token), "merged");
    let token = *space.lookup(0x5000).unwrap().token();
    space.map(fixed(0x5000, 0x2000, Prot::RW), &mut NoHooks).unwrap();
    assert!(!space.still_valid(&token), "replaced by an equal VMA");
    let token = *space.lookup(0x5000).unwrap().token();
    space
        .update(0, &mut NoHooks, |map, update| map.invalidate(0x5000, 1, update, |_, _| ()))
        .unwrap();
    assert!(!space.still_valid(&token), "invalidated");
}

#[test]
fn tokens_of_other_spaces_are_not_valid() {
    let pool = FixedPool::new();
    let (one, other) = (space(&pool), space(&pool));
    for space in [&one, &other] {
        space.map(fixed(0x5000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    }
    let token = *one.lookup(0x5000).unwrap().token();
    assert!(!other.still_valid(&token));
    drop(one);
    assert!(!other.still_valid(&token));
}

#[test]
fn a_claimed_range_is_not_found() {
    let pool = FixedPool::new();
    let space = space(&pool);
    let claim = space.claim(Placement::Fixed(0x5000), 0x1000, &mut NoHooks).unwrap();
    assert!(space.lookup(0x5000).is_none());
    assert_eq!(space.try_lookup(0x5000).map(|found| found.is_none()), Ok(true));
    claim.commit(Attrs::new(RO), (), &mut NoHooks).unwrap();
    assert!(space.lookup(0x5000).is_some());
}

/// Also while somebody holds it, and also if what they change is elsewhere.
#[test]
fn lookups_take_no_lock() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    }
    space.inspect(|_| {
        let token = *space.lookup(0x5000).unwrap().token();
        assert!(space.still_valid(&token));
        assert!(space.lookup(0x7000).is_none());
    });
    space.update(0, &mut NoHooks, |map, update| {
        map.protect(0x9000, 0x1000, RO, update).unwrap();
        assert!(space.lookup(0x5000).is_some());
        assert!(space.try_lookup(0x7000).is_err(), "a gap is not believed during a change");
    });
}

#[test]
fn lookups_inside_hooks_do_not_hang() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    }
    let mut seen = Vec::new();
    let mut hooks = phases(|phase| {
        // A VMA elsewhere is found as ever. That nothing is mapped is not believed during a change.
        assert!(space.try_lookup(0x9000).unwrap().is_some());
        seen.push((phase, space.try_lookup(0x5000).map(|found| found.is_some())));
    });
    space.unmap(0x5000, 0x1000, &mut hooks).unwrap();
    let expected =
        [(Phase::Unmap, Err(Busy)), (Phase::FlushBegin, Err(Busy)), (Phase::FlushWait, Ok(false))];
    assert_eq!(seen, expected);
}

#[test]
fn tokens_are_dead_while_a_flush_is_pending() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x2000, Prot::RW), &mut NoHooks).unwrap();
    }
    let old = *space.lookup(0x5000).unwrap().token();
    let mut waits = 0;
    let mut hooks = phases(|phase| {
        if phase != Phase::FlushWait {
            return;
        }
        waits += 1;
        // What was narrowed is found with its new rights, but its token is no use yet.
        let vma = space.lookup(0x5000).unwrap();
        assert_eq!(vma.prot(), RO);
        assert!(
            vma.token().is_dead() && !space.still_valid(vma.token()) && !space.still_valid(&old)
        );
        // Elsewhere nothing has changed.
        assert!(space.still_valid(space.lookup(0x9000).unwrap().token()));
        // Another thread maps next door, which merges: only the page that is flushed is dead.
        space.map(fixed(0x6000, 0x1000, RO), &mut NoHooks).unwrap();
        assert!(space.lookup(0x5000).unwrap().token().is_dead());
        let merged = space.lookup(0x6000).unwrap();
        assert_eq!(merged.range().page_count(), 2);
        assert!(!merged.token().is_dead());
    });
    space.protect(0x5000, 0x1000, RO, &mut hooks).unwrap();
    assert_eq!(waits, 1);
    assert!(space.still_valid(space.lookup(0x5000).unwrap().token()));
}

#[test]
fn a_range_mapped_again_while_it_is_being_flushed_has_dead_tokens() {
    let pool = FixedPool::new();
    let space = space(&pool);
    space.map(fixed(0x5000, 0x2000, Prot::RW), &mut NoHooks).unwrap();
    let mut token = None;
    let mut hooks = phases(|phase| {
        if phase == Phase::FlushWait {
            assert!(space.lookup(0x5000).is_none());
            space.map(fixed(0x5000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
            let vma = space.lookup(0x5000).unwrap();
            assert!(vma.token().is_dead(), "another processor may still see the former page");
            token = Some(*vma.token());
        }
    });
    space.unmap(0x5000, 0x2000, &mut hooks).unwrap();
    assert!(!space.still_valid(&token.unwrap()), "a dead token stays dead");
    assert!(space.still_valid(space.lookup(0x5000).unwrap().token()));
}

#[test]
fn more_pending_flushes_than_slots_are_still_heeded() {
    fn nest(space: &AddrSpace<VmMap<(), &FixedPool<VmaNode, 64>>>, depth: u64) {
        if depth == 0 {
            return;
        }
        let at = 0x10000 * depth;
        space.map(fixed(at, 0x1000, Prot::RW), &mut NoHooks).unwrap();
        let mut hooks = phases(|phase| {
            if phase == Phase::FlushWait {
                nest(space, depth - 1);
                for pending in depth..=12 {
                    assert!(space.lookup(0x10000 * pending).unwrap().token().is_dead());
                }
            }
        });
        space.protect(at, 0x1000, RO, &mut hooks).unwrap();
    }
    let pool = FixedPool::new();
    let space = space(&pool);
    nest(&space, 12);
    for ended in 1..=12 {
        assert!(space.still_valid(space.lookup(0x10000 * ended).unwrap().token()));
    }
}

#[test]
fn the_map_can_be_changed_and_exchanged_through_get_mut() {
    let pool = FixedPool::new();
    let strange = FixedPool::new();
    let mut space = space(&pool);
    space.map(fixed(0x5000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    let token = *space.lookup(0x5000).unwrap().token();
    space.get_mut().map(fixed(0x9000, 0x1000, RO), &mut NoHooks).unwrap();
    // Lookups without the lock find the change at once.
    assert!(space.try_lookup(0x9000).unwrap().is_some());
    assert!(space.lookup(0x9000).is_some());
    assert!(space.still_valid(&token));

    *space.get_mut() = VmMap::new(0x1000..=0x100_0fff, PageSize::SIZE_4K, &pool).unwrap();
    assert!(space.lookup(0x5000).is_none());
    assert!(!space.still_valid(&token));
    space.map(fixed(0x5000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    assert!(space.try_lookup(0x5000).unwrap().is_some());

    // Nodes of another allocator may go away at any time, so lookups take the lock, if it is free.
    let mut map = VmMap::new(0x1000..=0x100_0fff, PageSize::SIZE_4K, &strange).unwrap();
    map.map(fixed(0x9000, 0x1000, RO), &mut NoHooks).unwrap();
    *space.get_mut() = map;
    let vma = space.lookup(0x9000).unwrap();
    assert!(vma.token().is_dead() && !space.still_valid(vma.token()));
    assert_eq!(space.map(fixed(0x5000, 0x1000, Prot::RW), &mut NoHooks), Err(Error::ForeignNodes));
    assert!(space.lookup(0x5000).is_none());
    assert_eq!(space.try_lookup(0x5000).map(|found| found.is_none()), Ok(true));
    space.inspect(|_| assert_eq!(space.try_lookup(0x5000).map(|_| ()), Err(Busy)));
}

#[test]
fn a_kernel_that_only_tries_gets_through_after_get_mut() {
    let mut space = AddrSpace::new(super::new_map(&super::Alloc::default()));
    space.get_mut().map(fixed(0x3000, 0x1000, Prot::RW), &mut NoHooks).unwrap();
    assert!(space.try_lookup(0x3000).unwrap().is_some());
    std::mem::forget(space.get_mut());
    let vma = space.try_lookup(0x3000).unwrap().unwrap();
    assert!(space.still_valid(vma.token()));
}
