//! Walks without the lock, as one processor sees them. `tests/loom` and `tests/stress` have
//! several.

use kvma::addr_space::Busy;
use kvma::*;

use super::PAGE;

type Pool = FixedPool<VmaNode, 256>;
type Space<'a> = AddrSpace<VmMap<(), &'a Pool>>;

fn space(pool: &Pool) -> Space<'_> {
    AddrSpace::new(VmMap::new(PAGE..=0x100_0fff, PageSize::SIZE_4K, pool).unwrap())
}

fn fixed(page: u64, pages: u64, prot: Prot) -> MapRequest {
    MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, Attrs::new(prot))
}

/// First page, pages and protection of each VMA.
fn walk(space: &Space<'_>) -> Vec<(u64, u64, Prot)> {
    let of = |vma: VmaSnapshot| (vma.range().start() / PAGE, vma.range().page_count(), vma.prot());
    space.snapshots().map(of).collect()
}

fn list(map: &VmMap<(), &Pool>) -> Vec<(u64, u64, Prot)> {
    map.iter().map(|vma| (vma.start() / PAGE, vma.page_count(), vma.prot())).collect()
}

#[test]
fn a_walk_finds_every_vma_and_passes_over_claims() {
    let pool = Pool::new();
    let space = space(&pool);
    assert_eq!(walk(&space), []);
    for page in [1, 0x10, 0x11, 0x20, 0xfff] {
        let prot = if page == 0x11 { Prot::READ } else { Prot::RW };
        space.map(fixed(page, 1, prot), &mut NoHooks).unwrap();
    }
    // The last page of the space: nothing lies above, not even a free page.
    space.map(fixed(0x1000, 1, Prot::RX), &mut NoHooks).unwrap();
    let claims: Vec<_> = [0x12, 0x1f, 0x30, 0x31]
        .map(|page| space.claim(Placement::Fixed(page * PAGE), PAGE, &mut NoHooks).unwrap())
        .into();
    assert_eq!(walk(&space), space.inspect(list));
    let starts = |addr: u64| space.next_vma(addr).map(|vma| vma.range().start() / PAGE);
    for (page, next) in [(0, 1), (2, 0x10), (0x10, 0x10), (0x12, 0x20), (0x13, 0x20), (0x21, 0xfff)]
    {
        assert_eq!(starts(page * PAGE), Some(next), "{page:#x}");
        assert_eq!(starts(page * PAGE + 0xfff), Some(next), "{page:#x}");
    }
    assert_eq!(
        (starts(0x1000 * PAGE), starts(0x1001 * PAGE), starts(u64::MAX)),
        (Some(0x1000), None, None)
    );
    drop(claims);
}

/// Whoever has the lock may be in the middle of a call: nobody waits for it. Where
/// atomics have 64 bits: only there is a gap read as a whole.
#[test]
#[cfg(all(not(kvma_halves), target_has_atomic = "64"))]
fn a_walk_goes_on_while_the_lock_is_held_and_the_space_changes() {
    let pool = Pool::new();
    let space = space(&pool);
    for n in 0..50 {
        space.map(fixed(4 * n + 1, 1, Prot::RW), &mut NoHooks).unwrap();
    }
    let walked = |map: &VmMap<(), &Pool>| {
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(vma) = space.try_next_vma(from).expect("something was in the way") {
            found.push((vma.range().start() / PAGE, vma.range().page_count(), vma.prot()));
            from = vma.range().last() + 1;
        }
        assert_eq!(found, list(map));
    };
    space.inspect(walked);
    space.update(32, &mut NoHooks, |map, update| {
        walked(map);
        // Rotations, a VMA less, one more, one split in the middle, one replaced, one merged.
        map.unmap(PAGE, 8 * PAGE, update).unwrap();
        walked(map);
        map.map(fixed(3, 3, Prot::READ), update).unwrap();
        walked(map);
        map.unmap(4 * PAGE, PAGE, update).unwrap();
        walked(map);
        map.map(fixed(0x30, 8, Prot::READ), update).unwrap();
        walked(map);
        map.map(fixed(0x38, 1, Prot::READ), update).unwrap();
        map.map(fixed(0x2f, 1, Prot::READ), update).unwrap();
        walked(map);
        map.remap(0x2f * PAGE, 10 * PAGE, 0x2e * PAGE, |attrs| attrs, Merge::Both, update).unwrap();
        walked(map);
        map.clear(update).unwrap();
        walked(map);
    });
    assert!(matches!(space.try_next_vma(0), Ok(None)));
}

/// A miss of a page fault must wait for a change that is under way, a walk need not. Where
/// atomics have 64 bits: only there is a gap read as a whole.
#[test]
#[cfg(all(not(kvma_halves), target_has_atomic = "64"))]
fn a_walk_is_less_disturbed_than_a_lookup() {
    let pool = Pool::new();
    let space = space(&pool);
    space.map(fixed(0x10, 1, Prot::RW), &mut NoHooks).unwrap();
    space.update(3, &mut NoHooks, |_, _| {
        assert!(matches!(space.try_lookup(0x8 * PAGE), Err(Busy)));
        assert!(space.try_next_vma(0x8 * PAGE).unwrap().is_some());
    });
}

#[test]
fn a_walk_says_how_far_it_has_come() {
    let pool = Pool::new();
    let space = space(&pool);
    space.map(fixed(1, 1, Prot::RW), &mut NoHooks).unwrap();
    let mut walk = space.snapshots();
    assert_eq!(format!("{walk:?}"), "Snapshots { from: Some(0), .. }");
    walk.next().unwrap();
    assert_eq!(format!("{walk:?}"), "Snapshots { from: Some(8192), .. }");
}

/// Nothing is published then, and nobody takes the lock for good who would publish it.
#[test]
fn who_only_tries_gets_through_after_a_forgotten_guard() {
    let pool = Pool::new();
    let mut space = space(&pool);
    space.map(fixed(0x10, 1, Prot::RW), &mut NoHooks).unwrap();
    std::mem::forget(space.get_mut());
    let next = || space.try_next_vma(0).map(|vma| vma.map(|vma| vma.range().start()));
    // While somebody has the lock, there is no way.
    space.inspect(|_| assert!(matches!(next(), Err(Busy) | Ok(Some(_)))));
    assert!(matches!(next(), Ok(Some(start)) if start == 0x10 * PAGE));
}

/// The VMA at hand grows down over what has been passed.
#[test]
fn no_two_snapshots_overlap() {
    let pool = Pool::new();
    let space = space(&pool);
    let file = |page: u64| {
        Attrs::new(Prot::READ).with_backing(Backing::Object { id: 3, offset: page * PAGE })
    };
    let map = |page: u64, pages: u64| {
        let request = MapRequest::new(Placement::Fixed(page * PAGE), pages * PAGE, file(page));
        space.map(request, &mut NoHooks).unwrap();
    };
    map(0x10, 2);
    map(0x20, 2);
    let mut walk = space.snapshots();
    assert_eq!(walk.next().unwrap().range().last(), 0x12 * PAGE - 1);
    map(0x8, 0x18);
    let second = walk.next().unwrap();
    assert_eq!((second.range().start(), second.range().last()), (0x12 * PAGE, 0x22 * PAGE - 1));
    assert_eq!(second.attrs(), file(0x12));
    assert!(space.still_valid(second.token()));
    assert!(walk.next().is_none() && walk.next().is_none());
}
