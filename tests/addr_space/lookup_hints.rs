//! Lookups that begin at what was found last: they find what lookups without a hint find.

use kvma::addr_space::{Busy, LookupHint};
use kvma::*;
use kvma_test_support::{Phase, Random, phases};

use super::{Alloc, PAGE, fixed, new_map, new_space};

fn range(found: Option<VmaSnapshot>) -> Option<(u64, u64)> {
    found.map(|vma| (vma.range().start() / PAGE, vma.range().page_count()))
}

#[test]
fn a_hint_finds_what_is_there_now() {
    let space = new_space(&Alloc::<()>::default());
    let mut hint = LookupHint::new();
    let mut look = |page| range(space.lookup_near(page * PAGE, &mut hint));
    assert_eq!(look(5), None);
    space.map(fixed(4, 4, Prot::RW), &mut NoHooks).unwrap();
    for page in [4, 7, 5] {
        assert_eq!(look(page), Some((4, 4)));
    }
    assert_eq!(look(8), None);
    space.unmap(6 * PAGE, PAGE, &mut NoHooks).unwrap();
    assert_eq!((look(5), look(6), look(7)), (Some((4, 2)), None, Some((7, 1))));
    space.unmap(4 * PAGE, 4 * PAGE, &mut NoHooks).unwrap();
    assert_eq!((look(7), look(4)), (None, None));
}

/// The token that a hint gives is that of the page which is looked up, and not of the one before.
#[test]
fn a_hint_heeds_a_flush_that_is_pending_elsewhere_in_the_vma() {
    let space = new_space(&Alloc::<()>::default());
    space.map(fixed(4, 4, Prot::RW), &mut NoHooks).unwrap();
    let mut asked = false;
    let mut hooks = phases(|phase| {
        if phase == Phase::FlushWait {
            asked = true;
            // Page 6 is mapped again while it is being flushed, in one VMA with its neighbours.
            space.map(fixed(6, 1, Prot::RW), &mut NoHooks).unwrap();
            let mut hint = LookupHint::new();
            let here = space.lookup_near(4 * PAGE, &mut hint).unwrap();
            assert!(here.range().page_count() == 4 && !here.token().is_dead());
            assert!(space.lookup_near(6 * PAGE, &mut hint).unwrap().token().is_dead());
            assert!(!space.lookup_near(7 * PAGE, &mut hint).unwrap().token().is_dead());
        }
    });
    space.unmap(6 * PAGE, PAGE, &mut hooks).unwrap();
    assert!(asked);
}

/// Nodes go from one space to the other and back; one hint serves both.
#[test]
fn random_lookups_by_one_hint_find_what_others_find() {
    let alloc = Alloc::<()>::default();
    let mut spaces = [new_space(&alloc), new_space(&alloc)];
    let mut random = Random::new(1);
    let mut hints = [LookupHint::new(); 3];
    let mut found = 0;
    for step in 0..20_000 {
        let space = &spaces[random.below(2) as usize];
        let (page, pages) = (1 + random.below(40), 1 + random.below(8));
        match random.below(4) {
            0 => {
                let prot = random.pick(&[Prot::READ, Prot::RW]);
                space.map(fixed(page, pages, prot), &mut NoHooks).map(drop).unwrap();
            }
            1 => drop(space.unmap(page * PAGE, pages * PAGE, &mut NoHooks).unwrap()),
            _ => {}
        }
        if step % 1000 == 0 {
            *spaces[0].get_mut() = new_map(&alloc);
        }
        let space = &spaces[random.below(2) as usize];
        for _ in 0..4 {
            let addr = random.below(50 * PAGE);
            let hint = &mut hints[random.below(3) as usize];
            let want = space.lookup(addr);
            let near = space.lookup_near(addr, hint);
            assert_eq!(near.map(|vma| *vma.token()), want.map(|vma| *vma.token()), "step {step}");
            assert_eq!(range(near), range(want));
            assert_eq!(range(space.try_lookup_near(addr, hint).unwrap()), range(want));
            found += u32::from(near.is_some());
        }
    }
    assert!(found > 10_000, "{found}");
}

/// While the lock is held and nothing is published, a hint may answer, but only what is there.
#[test]
fn a_hint_outlives_its_map() {
    let (alloc, strange) = (Alloc::<()>::default(), Alloc::default());
    let mut space = new_space(&alloc);
    space.map(fixed(4, 4, Prot::RW), &mut NoHooks).unwrap();
    let mut hint = LookupHint::new();
    assert!(space.lookup_near(4 * PAGE, &mut hint).is_some());
    *space.get_mut() = new_map(&strange);
    drop(alloc);
    space.inspect(|_| {
        assert_eq!(space.try_lookup_near(4 * PAGE, &mut hint).map(range), Err(Busy));
    });
    assert_eq!(range(space.lookup_near(4 * PAGE, &mut hint)), None);
}
