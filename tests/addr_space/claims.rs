//! Claims: ranges that are held without being mapped.

use super::{Alloc, PAGE, fixed, new_space, vmas};
use kvma::*;
use kvma_test_support::{Log, Refuse};

#[test]
fn a_claimed_range_is_taken_but_not_mapped() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let mut log = Log::default();
    let claim = space.claim(Placement::Fixed(5 * PAGE), 3 * PAGE, (), &mut log).unwrap();
    assert_eq!(claim.range().pages(), 3);
    assert!(space.lookup(5 * PAGE).is_none());
    let taken = MapRequest::new(Placement::FixedNoReplace(7 * PAGE), PAGE, Attrs::new(Prot::RW));
    assert_eq!(space.map(taken, &mut log), Err(Error::Overlap));
    assert_eq!(space.protect(5 * PAGE, PAGE, Prot::RW, &mut log), Err(Error::NotMapped));
    let elsewhere = space.update(4, &mut log, |map, update| {
        map.relocate(5 * PAGE, 3 * PAGE, 50 * PAGE, Source::Unmap, Merge::Both, update)
    });
    assert_eq!(elsewhere, Err(Error::Busy));
    let child = space.fork(alloc.clone(), &mut log, |_, vma| Some(vma.attrs())).unwrap();
    assert!(child.is_empty(), "nobody would commit the claim in the child");
    assert_eq!(log.events(), [""; 0]);
    // It merges with its neighbours once it is committed, and not before.
    space.map(fixed(8, 1, Prot::RW), &mut NoHooks).unwrap();
    assert_eq!(vmas(&space), [(5, 3), (8, 1)]);
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut log), Ok(5 * PAGE));
    assert_eq!(log.events(), ["prepare map 0x5000..=0x7fff rw-", "map 0x5000..=0x7fff rw-"]);
    assert_eq!(vmas(&space), [(5, 4)]);
    assert_eq!(space.lookup(5 * PAGE).unwrap().prot(), Prot::RW);
}

#[test]
fn a_claim_that_is_dropped_or_refused_leaves_nothing() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let claim = space.claim(Placement::Any(Search::new()), PAGE, (), &mut NoHooks).unwrap();
    drop(claim);
    let claim = space.claim(Placement::Any(Search::new()), PAGE, (), &mut NoHooks).unwrap();
    let mut hooks = Refuse::after(0, NoHooks);
    let refused = claim.commit(Attrs::new(Prot::RW), (), &mut hooks);
    assert_eq!(refused, Err(Error::Refused(Refuse::<NoHooks>::ERRNO)));
    assert_eq!(vmas(&space), []);
    assert_eq!(alloc.in_use(), 1);
}

#[test]
fn a_claim_that_was_taken_away_cannot_be_committed() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    // Taken away in the middle: the rest of the claim goes, what others have put there stays.
    let claim = space.claim(Placement::Fixed(5 * PAGE), 5 * PAGE, (), &mut NoHooks).unwrap();
    let mut log = Log::default();
    assert_eq!(space.unmap(6 * PAGE, 3 * PAGE, &mut log), Ok(3));
    assert_eq!(log.events(), [""; 0], "hooks have never heard of it");
    space.map(fixed(7, 1, Prot::RW), &mut NoHooks).unwrap();
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks), Err(Error::NotMapped));
    assert_eq!(vmas(&space), [(7, 1)]);
    // Taken away as a whole, and claimed by somebody else.
    let claim = space.claim(Placement::Fixed(5 * PAGE), PAGE, (), &mut NoHooks).unwrap();
    space.unmap(5 * PAGE, PAGE, &mut NoHooks).unwrap();
    let other = space.claim(Placement::Fixed(5 * PAGE), PAGE, (), &mut NoHooks).unwrap();
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks), Err(Error::NotMapped));
    assert_eq!(other.commit(Attrs::new(Prot::READ), (), &mut NoHooks), Ok(5 * PAGE));
    assert_eq!(vmas(&space), [(5, 1), (7, 1)]);
}
