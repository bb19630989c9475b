//! One processor: accesses are made or refused as the VMAs say, and loads show the right contents.

use core::sync::atomic::Ordering::Relaxed;

use kvma::{Attrs, Backing, Error, Placement, Prot, Search};

use super::{CoreSpace, check, expect};
use crate::contents::Origin;
use crate::hooks::PageHooks;
use crate::paging::PAGE_SIZE;
use crate::{fault, probe};

pub fn run(space: &CoreSpace<'_>) {
    demand_paging(space);
    protection(space);
    guard_pages_and_gaps(space);
    claims(space);
    moving(space);
    shared_objects(space);
}

/// Returns the number of faults that are served while `access` runs.
fn faults(access: impl FnOnce()) -> u64 {
    let before = fault::SERVED.load(Relaxed);
    access();
    fault::SERVED.load(Relaxed) - before
}

fn demand_paging(space: &CoreSpace<'_>) {
    let at = space.map(4, Attrs::new(Prot::RW));
    let mut value = None;
    let first = faults(|| value = probe::load(at));
    let second = faults(|| assert!(probe::store(at, 42)));
    check(
        "the first access of a page faults and finds zeros, the second does not fault",
        (first, second) == (1, 0) && value == Some(0),
    );
    check("what was written reads back", probe::load(at) == Some(42));
    space.unmap(at, 1);
    check(
        "an unmapped page is refused",
        probe::load(at).is_none() && !probe::store(at, 1) && !probe::fetch(at),
    );
    check("its neighbour is not", probe::store(at + PAGE_SIZE, 43));
    space.map_at(at, 1, Attrs::new(Prot::RW));
    let again = faults(|| value = probe::load(at));
    check("mapped again, it faults again and holds zeros", again == 1 && value == Some(0));
    space.map_at(at, 4, Attrs::new(Prot::READ));
    check(
        "so does a page that is replaced by mapping over it",
        probe::load(at + PAGE_SIZE) == Some(0),
    );
    space.unmap(at, 4);
}

fn protection(space: &CoreSpace<'_>) {
    let at = space.map(2, Attrs::new(Prot::RW));
    assert!(probe::store(at, 7));
    check("a fetch from a no-execute page is refused", !probe::fetch(at));
    space.protect(at, 2, Prot::READ);
    check(
        "a write to a page that became read-only is refused, for the kernel too",
        !probe::store(at, 8),
    );
    check("and has changed nothing", probe::load(at) == Some(7));
    check("a page that was never accessed is read-only as well", !probe::store(at + PAGE_SIZE, 8));
    space.protect(at, 1, Prot::RX);
    check("once executable, it is executed", probe::fetch(at) && !probe::store(at, 8));
    space.protect(at, 2, Prot::NONE);
    check(
        "without any rights, every access is refused",
        probe::load(at).is_none() && !probe::store(at, 8) && !probe::fetch(at),
    );
    space.protect(at, 2, Prot::RW);
    check(
        "and the contents are still there afterwards",
        probe::load(at) == Some(7) && probe::store(at, 9),
    );
    space.unmap(at, 2);
}

fn guard_pages_and_gaps(space: &CoreSpace<'_>) {
    let at = space.map(5, Attrs::new(Prot::RW));
    space.protect(at, 1, Prot::NONE);
    space.unmap(at + 2 * PAGE_SIZE, 1);
    check(
        "an access to a guard page is refused",
        probe::load(at).is_none() && !probe::store(at, 1),
    );
    check("an access to a gap between two VMAs is refused", !probe::store(at + 2 * PAGE_SIZE, 1));
    check(
        "around guard page and gap, accesses are made",
        [1, 3, 4].iter().all(|page| probe::store(at + page * PAGE_SIZE, *page)),
    );
    space.unmap(at, 5);
}

fn claims(space: &CoreSpace<'_>) {
    let mut hooks = PageHooks::new(&space.0.pages);
    let (vmas, len) = (&space.0.vmas, 2 * PAGE_SIZE);
    let rw = Attrs::new(Prot::RW);
    let claim = expect(vmas.claim(Placement::Any(Search::new()), len, &mut hooks));
    let at = claim.range().start();
    check(
        "an access to a claimed range is refused, and nothing else is mapped there",
        probe::load(at).is_none() && !probe::store(at, 1) && space.find_gap(2) != at,
    );
    expect(claim.commit(rw, (), &mut hooks));
    check("a committed claim is memory", probe::store(at, 2) && probe::load(at) == Some(2));
    space.unmap(at, 2);
    let claim = expect(vmas.claim(Placement::FixedNoReplace(at), len, &mut hooks));
    space.map_at(at + PAGE_SIZE, 1, rw);
    assert!(probe::store(at + PAGE_SIZE, 3));
    check(
        "a claim that was mapped over is lost, and leaves the new mapping alone",
        claim.commit(rw, (), &mut hooks) == Err(Error::ClaimLost.errno())
            && probe::load(at).is_none()
            && probe::load(at + PAGE_SIZE) == Some(3),
    );
    space.unmap(at + PAGE_SIZE, 1);
    drop(expect(vmas.claim(Placement::FixedNoReplace(at), len, &mut hooks)));
    check("a claim that is dropped leaves a gap", space.find_gap(2) == at);
}

fn moving(space: &CoreSpace<'_>) {
    let from = space.map(3, Attrs::new(Prot::RW));
    let to = space.map(3, Attrs::new(Prot::RW));
    space.unmap(to, 3);
    assert!(probe::store(from, 1) && probe::store(from + 2 * PAGE_SIZE, 3));
    space.relocate(from, 3, to);
    let mut value = None;
    let untouched = faults(|| value = probe::load(to + PAGE_SIZE));
    check(
        "moved pages take their contents along",
        probe::load(to) == Some(1) && probe::load(to + 2 * PAGE_SIZE) == Some(3),
    );
    check("a page without contents faults at its new place", untouched == 1 && value == Some(0));
    check(
        "the old place is refused",
        probe::load(from).is_none() && !probe::store(from + 2 * PAGE_SIZE, 1),
    );
    space.unmap(to, 3);
}

fn shared_objects(space: &CoreSpace<'_>) {
    let object = |page: u64| {
        let backing = Backing::Object { id: 1, offset: page * PAGE_SIZE };
        Attrs::new(Prot::RW).with_backing(backing)
    };
    let page = |page| Origin::Object { id: 1, page }.first_word();
    let private = space.map(4, object(16));
    space.unmap(private + PAGE_SIZE, 1);
    check(
        "a file's pages keep their offsets when the VMA is split",
        probe::load(private) == Some(page(16))
            && probe::load(private + 2 * PAGE_SIZE) == Some(page(18)),
    );
    let one = space.map(2, object(16).shared());
    let other = space.map(1, object(17).shared());
    assert!(probe::store(one + PAGE_SIZE, 99));
    check(
        "what is written to a shared page shows wherever it is mapped",
        probe::load(other) == Some(99),
    );
    check(
        "but not in private mappings",
        probe::store(private, 98) && probe::load(one) == Some(page(16)),
    );
}
