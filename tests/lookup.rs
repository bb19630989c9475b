//! Lookups without the lock, as one processor sees them. `tests/loom.rs` has several.

use kvma::*;

const RO: Prot = Prot::READ;

struct Quiet;
impl<V> Hooks<V> for Quiet {}

fn space(pool: &FixedPool<VmaNode, 64>) -> AddrSpace<VmMap<(), &FixedPool<VmaNode, 64>>> {
    AddrSpace::new(VmMap::new(0x1000, 0x1000, PageSize::SIZE_4K, pool).unwrap())
}

fn fixed(start: u64, len: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(start), len, Attrs::new(prot))
}

#[test]
fn a_hit_copies_the_vma() {
    let pool = FixedPool::new();
    let space = space(&pool);
    let file = Attrs::new(RO).with_backing(Backing::Object { id: 9, offset: 5 }).with_user_bits(77);
    space.map(MapRequest::new(Placement::Fixed(0x5000), 0x3000, file), &mut Quiet).unwrap();
    for addr in [0x5000, 0x6123, 0x7fff] {
        let vma = space.lookup(addr).unwrap();
        assert_eq!((vma.range().start(), vma.range().last()), (0x5000, 0x7fff));
        assert_eq!(vma.attrs(), file);
        assert!(!vma.token().is_dead());
        assert!(space.still_valid(vma.token()));
    }
    let here = space.lookup(0x6123).unwrap().attrs_at(0x6123);
    assert_eq!(here.backing(), Backing::Object { id: 9, offset: 6 });
    for addr in [0, 0x4fff, 0x8000, u64::MAX] {
        assert!(space.lookup(addr).is_none());
        assert_eq!(space.try_lookup(addr).map(|found| found.is_none()), Ok(true));
    }
}

#[test]
fn a_token_ends_with_its_vma_only() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x2000, Prot::RW), &mut Quiet).unwrap();
    }
    let token = *space.lookup(0x5000).unwrap().token();
    // Elsewhere, even next door: nothing to do with it.
    space.protect(0x9000, 0x1000, RO, &mut Quiet).unwrap();
    space.unmap(0x9000, 0x2000, &mut Quiet).unwrap();
    space.map(fixed(0x7000, 0x1000, RO), &mut Quiet).unwrap();
    assert!(space.still_valid(&token));
    // A change and back is a change.
    space.protect(0x5000, 0x2000, RO, &mut Quiet).unwrap();
    assert!(!space.still_valid(&token));
    space.protect(0x5000, 0x2000, Prot::RW, &mut Quiet).unwrap();
    assert!(!space.still_valid(&token));
    let token = *space.lookup(0x5000).unwrap().token();
    space.unmap(0x6000, 0x1000, &mut Quiet).unwrap();
    assert!(!space.still_valid(&token), "cut");
    let token = *space.lookup(0x5000).unwrap().token();
    space.map(fixed(0x6000, 0x1000, Prot::RW), &mut Quiet).unwrap();
    assert!(!space.still_valid(&token), "joined");
    let token = *space.lookup(0x5000).unwrap().token();
    space.map(fixed(0x5000, 0x2000, Prot::RW), &mut Quiet).unwrap();
    assert!(!space.still_valid(&token), "replaced by the same");
    let token = *space.lookup(0x5000).unwrap().token();
    space
        .update(0, &mut Quiet, |map, update| map.invalidate(0x5000, 1, update, |_, _| ()))
        .unwrap();
    assert!(!space.still_valid(&token), "disturbed");
}

#[test]
fn tokens_of_other_spaces_are_not_valid() {
    let pool = FixedPool::new();
    let (one, other) = (space(&pool), space(&pool));
    for space in [&one, &other] {
        space.map(fixed(0x5000, 0x1000, Prot::RW), &mut Quiet).unwrap();
    }
    let token = *one.lookup(0x5000).unwrap().token();
    assert!(!other.still_valid(&token));
    drop(one);
    assert!(!other.still_valid(&token));
}

#[test]
fn reserved_ranges_are_not_there() {
    let pool = FixedPool::new();
    let space = space(&pool);
    let held = Attrs::new(Prot::RW);
    let held = held.with_flags(held.flags() | VmaFlags::RESERVED);
    space.map(MapRequest::new(Placement::Fixed(0x5000), 0x1000, held), &mut Quiet).unwrap();
    assert!(space.lookup(0x5000).is_none());
}

/// Looks at the space from inside the phases of a change.
struct Nosy<F: FnMut(&'static str)>(F);

impl<V, F: FnMut(&'static str)> Hooks<V> for Nosy<F> {
    fn unmap(&mut self, _: &Piece<'_, V>) {
        (self.0)("unmap")
    }
    fn map(&mut self, _: &Piece<'_, V>) {
        (self.0)("map")
    }
    fn protect(&mut self, _: &Piece<'_, V>, _: &Attrs) {
        (self.0)("protect")
    }
    fn flush_begin(&mut self) {
        (self.0)("flush_begin")
    }
    fn flush_wait(&mut self) {
        (self.0)("flush_wait")
    }
}

#[test]
fn lookups_inside_hooks_do_not_hang() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x1000, Prot::RW), &mut Quiet).unwrap();
    }
    let mut seen = Vec::new();
    let mut hooks = Nosy(|phase| {
        // A hit elsewhere is as good as ever; no hole is believed in the middle of a change.
        assert!(space.try_lookup(0x9000).unwrap().is_some());
        seen.push((phase, space.try_lookup(0x5000).map(|found| found.is_some())));
    });
    space.unmap(0x5000, 0x1000, &mut hooks).unwrap();
    assert_eq!(seen, [("unmap", Err(Busy)), ("flush_begin", Err(Busy)), ("flush_wait", Ok(false))]);
}

#[test]
fn tokens_are_dead_while_a_flush_is_under_way() {
    let pool = FixedPool::new();
    let space = space(&pool);
    for start in [0x5000, 0x9000] {
        space.map(fixed(start, 0x2000, Prot::RW), &mut Quiet).unwrap();
    }
    let old = *space.lookup(0x5000).unwrap().token();
    let mut waits = 0;
    let mut hooks = Nosy(|phase| {
        if phase != "flush_wait" {
            return;
        }
        waits += 1;
        // What was narrowed: there, with its new rights, and nothing to build on yet.
        let vma = space.lookup(0x5000).unwrap();
        assert_eq!(vma.prot(), RO);
        assert!(
            vma.token().is_dead() && !space.still_valid(vma.token()) && !space.still_valid(&old)
        );
        // Elsewhere, nothing.
        assert!(space.still_valid(space.lookup(0x9000).unwrap().token()));
        // Another thread maps next door and has it joined: only the flushed page is concerned.
        space.map(fixed(0x6000, 0x1000, RO), &mut Quiet).unwrap();
        assert!(space.lookup(0x5000).unwrap().token().is_dead());
        let joined = space.lookup(0x6000).unwrap();
        assert_eq!(joined.range().pages(), 2);
        assert!(!joined.token().is_dead());
    });
    space.protect(0x5000, 0x1000, RO, &mut hooks).unwrap();
    assert_eq!(waits, 1);
    assert!(space.still_valid(space.lookup(0x5000).unwrap().token()));
}

#[test]
fn a_range_that_is_still_being_flushed_is_mapped_again_with_care() {
    let pool = FixedPool::new();
    let space = space(&pool);
    space.map(fixed(0x5000, 0x2000, Prot::RW), &mut Quiet).unwrap();
    let mut token = None;
    let mut hooks = Nosy(|phase| {
        if phase == "flush_wait" {
            assert!(space.lookup(0x5000).is_none());
            space.map(fixed(0x5000, 0x1000, Prot::RW), &mut Quiet).unwrap();
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
fn more_flushes_than_slots() {
    fn nest(space: &AddrSpace<VmMap<(), &FixedPool<VmaNode, 64>>>, depth: u64) {
        if depth == 0 {
            return;
        }
        let at = 0x10000 * depth;
        space.map(fixed(at, 0x1000, Prot::RW), &mut Quiet).unwrap();
        let mut hooks = Nosy(|phase| {
            if phase == "flush_wait" {
                nest(space, depth - 1);
                for under_way in depth..=12 {
                    assert!(space.lookup(0x10000 * under_way).unwrap().token().is_dead());
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
fn the_map_may_be_changed_without_the_lock_and_exchanged() {
    let pool = FixedPool::new();
    let strange = FixedPool::new();
    let mut space = space(&pool);
    space.map(fixed(0x5000, 0x1000, Prot::RW), &mut Quiet).unwrap();
    let token = *space.lookup(0x5000).unwrap().token();
    let mut hooks = Quiet;
    let map = space.get_mut();
    let mut update = map.update(&mut hooks);
    map.map(fixed(0x9000, 0x1000, RO), &mut update).unwrap();
    drop(update);
    assert_eq!(space.try_lookup(0x9000).map(|_| ()), Err(Busy));
    assert!(space.lookup(0x9000).is_some());
    assert!(space.try_lookup(0x9000).is_ok());
    assert!(space.still_valid(&token));

    *space.get_mut() = VmMap::new(0x1000, 0x1000, PageSize::SIZE_4K, &pool).unwrap();
    assert!(space.lookup(0x5000).is_none());
    assert!(!space.still_valid(&token));
    space.map(fixed(0x5000, 0x1000, Prot::RW), &mut Quiet).unwrap();
    assert!(space.try_lookup(0x5000).unwrap().is_some());

    // Nodes of another allocator are not ours to keep: lookups take the lock.
    *space.get_mut() = VmMap::new(0x1000, 0x1000, PageSize::SIZE_4K, &strange).unwrap();
    assert_eq!(space.map(fixed(0x5000, 0x1000, Prot::RW), &mut Quiet), Err(Error::ForeignNodes));
    assert!(space.lookup(0x5000).is_none());
    assert_eq!(space.try_lookup(0x5000).map(|_| ()), Err(Busy));
}
