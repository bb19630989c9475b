//! Claims: ranges that are held without being mapped.

use kvma::vm_map::SourceRange;
use kvma::*;
use kvma_test_support::{Log, Refuse, Refused};

use super::{Alloc, PAGE, fixed, new_space, vmas};

#[test]
fn a_claimed_range_is_taken_but_not_mapped() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let mut log = Log::default();
    let claim = space.claim(Placement::Fixed(5 * PAGE), 3 * PAGE, &mut log).unwrap();
    assert_eq!(claim.range().len(), Some(3 * PAGE));
    // It is no VMA: nobody finds it, and nobody is given it.
    assert!(space.lookup(5 * PAGE).is_none());
    assert!(space.is_empty());
    space.inspect(|map| {
        assert!(map.find(5 * PAGE).is_none() && map.iter().next().is_none());
        assert!(!map.is_free(7 * PAGE, PAGE));
        assert_eq!(map.find_gap(2 * PAGE, &Search::new().hint(6 * PAGE)), Ok(PAGE));
    });
    let taken = MapRequest::new(Placement::FixedNoReplace(7 * PAGE), PAGE, Attrs::new(Prot::RW));
    assert_eq!(space.map(taken, &mut log), Err(Error::Overlap));
    assert_eq!(space.protect(5 * PAGE, PAGE, Prot::RW, &mut log), Err(Error::NotMapped));
    let elsewhere =
        space.relocate(5 * PAGE, 3 * PAGE, 50 * PAGE, SourceRange::Unmap, Merge::Both, &mut log);
    assert_eq!(elsewhere, Err(Error::Claimed));
    let child = space.fork(alloc.clone(), &mut log, |_, vma| Ok(Some((vma.attrs(), ())))).unwrap();
    assert!(child.is_empty(), "nobody would commit the claim in the child");
    assert!(child.is_free(5 * PAGE, 3 * PAGE));
    assert_eq!(log.events(), [""; 0]);
    // It merges with its neighbours once it is committed, and not before.
    space.map(fixed(8, 1, Prot::RW), &mut NoHooks).unwrap();
    assert_eq!(vmas(&space), [(8, 1)]);
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut log), Ok(5 * PAGE));
    assert_eq!(log.events(), ["prepare map 0x5000..=0x7fff rw-", "map 0x5000..=0x7fff rw-"]);
    assert_eq!(vmas(&space), [(5, 4)]);
    assert_eq!(space.lookup(5 * PAGE).unwrap().prot(), Prot::RW);
}

#[test]
fn a_claim_that_is_dropped_or_refused_leaves_nothing() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let claim = space.claim(Placement::Any(Search::new()), PAGE, &mut NoHooks).unwrap();
    drop(claim);
    assert!(space.inspect(|map| map.is_free(PAGE, PAGE)), "dropped, it gives the range back");
    let claim = space.claim(Placement::Any(Search::new()), PAGE, &mut NoHooks).unwrap();
    let mut hooks = Refuse::after(0, NoHooks);
    let refused = claim.commit(Attrs::new(Prot::RW), (), &mut hooks);
    assert_eq!(refused, Err(HookError::Hook(Refused)));
    assert!(space.inspect(|map| map.is_free(PAGE, PAGE)));
    assert_eq!(vmas(&space), []);
    assert_eq!(alloc.in_use(), 1);
}

/// An early return is a claim that is dropped.
#[test]
fn a_claim_does_not_leak_when_work_in_between_fails() {
    struct Device;

    fn map_device(
        space: &super::Space,
        device: Result<Device, &'static str>,
    ) -> Result<u64, String> {
        let claim = space
            .claim(Placement::Any(Search::new()), 4 * PAGE, &mut NoHooks)
            .map_err(|error| error.to_string())?;
        // Slow work without the lock.
        let Device = device?;
        claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks).map_err(|error| error.to_string())
    }

    let alloc = Alloc::default();
    let space = new_space(&alloc);
    assert_eq!(map_device(&space, Err("no such device")), Err("no such device".into()));
    assert!(space.inspect(|map| map.is_free(PAGE, 4 * PAGE)));
    assert_eq!(map_device(&space, Ok(Device)), Ok(PAGE));
    assert_eq!(vmas(&space), [(1, 4)]);
}

/// Unmapping, protecting and the like pass over a claim, as if it were mapped only later.
#[test]
fn operations_on_ranges_leave_claims_alone() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    let claim = space.claim(Placement::Fixed(5 * PAGE), 5 * PAGE, &mut NoHooks).unwrap();
    space.map(fixed(3, 2, Prot::RW), &mut NoHooks).unwrap();
    space.map(fixed(10, 2, Prot::RW), &mut NoHooks).unwrap();
    let mut log = Log::default();
    assert_eq!(space.unmap(4 * PAGE, 7 * PAGE, &mut log), Ok(2 * PAGE));
    assert_eq!(log.changes()[..2], ["unmap 0x4000..=0x4fff rw-", "unmap 0xa000..=0xafff rw-"],);
    assert!(!space.inspect(|map| map.is_free(6 * PAGE, PAGE)));
    let kept = |map: &mut VmMap<(), Alloc>, update: &mut Update<'_, _, _, _>| {
        map.retain(|vma| vma.start() == 3 * PAGE, update)
    };
    assert_eq!(space.update(0, &mut NoHooks, kept), Ok(PAGE));
    assert_eq!(vmas(&space), [(3, 1)]);
    assert_eq!(claim.commit(Attrs::new(Prot::READ), (), &mut NoHooks), Ok(5 * PAGE));
    assert_eq!(vmas(&space), [(3, 1), (5, 5)]);
}

#[test]
fn a_claim_that_was_taken_away_cannot_be_committed() {
    let alloc = Alloc::default();
    let space = new_space(&alloc);
    // A mapping at a fixed address takes the whole claim, without a word to the hooks.
    let claim = space.claim(Placement::Fixed(5 * PAGE), 5 * PAGE, &mut NoHooks).unwrap();
    let mut log = Log::default();
    space.map(fixed(7, 1, Prot::RW), &mut log).unwrap();
    assert_eq!(log.events(), ["prepare map 0x7000..=0x7fff rw-", "map 0x7000..=0x7fff rw-"]);
    assert!(space.inspect(|map| map.is_free(5 * PAGE, 2 * PAGE)));
    let lost = claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks);
    assert_eq!(lost, Err(Error::ClaimLost));
    assert_eq!(vmas(&space), [(7, 1)]);
    // Taken away, and claimed by somebody else.
    let fixed_at = Placement::Fixed(5 * PAGE);
    let claim = space.claim(fixed_at, PAGE, &mut NoHooks).unwrap();
    let other = space.claim(fixed_at, PAGE, &mut NoHooks).unwrap();
    assert_eq!(claim.commit(Attrs::new(Prot::RW), (), &mut NoHooks), Err(Error::ClaimLost));
    assert_eq!(other.commit(Attrs::new(Prot::READ), (), &mut NoHooks), Ok(5 * PAGE));
    assert_eq!(vmas(&space), [(5, 1), (7, 1)]);
}

/// Behind no lock, the claim is a value that goes back to the map.
#[test]
fn a_bare_map_claims_commits_and_releases() {
    let alloc = Alloc::default();
    let mut map = super::new_map::<()>(&alloc);
    let mut log = Log::default();
    let claimed = map.claim(Placement::Fixed(5 * PAGE), 2 * PAGE, &mut log).unwrap();
    assert_eq!((map.len(), map.mapped_bytes()), (0, 0));
    let attrs = Attrs::new(Prot::RW);
    map.commit_claim(&claimed, attrs, (), Merge::Both, &mut log).unwrap();
    assert_eq!((map.len(), map.mapped_bytes()), (1, 2 * PAGE));
    let again = map.commit_claim(&claimed, attrs, (), Merge::Both, &mut log);
    assert_eq!(again, Err(Error::ClaimLost));
    let claimed = map.claim(Placement::Fixed(9 * PAGE), PAGE, &mut log).unwrap();
    map.release_claim(claimed, &mut log).unwrap();
    assert!(map.is_free(9 * PAGE, PAGE));
    map.check().unwrap();
}

#[test]
fn dropping_a_claim_does_not_look_at_other_vmas() {
    let space = new_space(&Alloc::default());
    let claim = space.claim(Placement::Fixed(8 * PAGE), 100 * PAGE, &mut NoHooks).unwrap();
    // Others leave it alone, or take it away whole.
    space.unmap(PAGE, 199 * PAGE, &mut NoHooks).unwrap();
    assert!(!space.inspect(|map| map.is_free(8 * PAGE, PAGE)));
    space.map(fixed(20, 1, Prot::RW), &mut NoHooks).unwrap();
    assert!(space.inspect(|map| map.is_free(8 * PAGE, PAGE)));
    assert_eq!(claim.commit(Attrs::default(), (), &mut NoHooks), Err(Error::ClaimLost));
    assert_eq!(space.len(), 1);
    space.inspect(VmMap::check).unwrap();
}
