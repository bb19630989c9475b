//! One processor: accesses are served, refused and show what they must.

use super::{Ground, prove};
use crate::{contents::Origin, fault, paging::PAGE_SIZE, probe};
use core::sync::atomic::Ordering::Relaxed;
use kvma::{Attrs, Backing, Prot, VmaFlags};

pub fn run(on: &Ground<'_>) {
    demand_and_reading_back(on);
    protection(on);
    guards_and_holes(on);
    moving(on);
    shared_objects(on);
}

/// Faults served while `access` runs.
fn faults(access: impl FnOnce()) -> u64 {
    let before = fault::SERVED.load(Relaxed);
    access();
    fault::SERVED.load(Relaxed) - before
}

fn demand_and_reading_back(on: &Ground<'_>) {
    let at = on.map(4, Attrs::new(Prot::RW));
    let mut value = None;
    let first = faults(|| value = probe::load(at));
    let second = faults(|| assert!(probe::store(at, 42)));
    prove(
        "the first access of a page faults and finds zeros, the second does not fault",
        (first, second) == (1, 0) && value == Some(0),
    );
    prove("what was written reads back", probe::load(at) == Some(42));
    on.unmap(at, 1);
    prove(
        "an unmapped page is refused",
        probe::load(at).is_none() && !probe::store(at, 1) && !probe::fetch(at),
    );
    prove("its neighbour is not", probe::store(at + PAGE_SIZE, 43));
    on.map_at(at, 1, Attrs::new(Prot::RW));
    let again = faults(|| value = probe::load(at));
    prove("mapped again, it faults again and holds zeros", again == 1 && value == Some(0));
    on.map_at(at, 4, Attrs::new(Prot::READ));
    prove(
        "so does a page that is replaced by mapping over it",
        probe::load(at + PAGE_SIZE) == Some(0),
    );
    on.unmap(at, 4);
}

fn protection(on: &Ground<'_>) {
    let at = on.map(2, Attrs::new(Prot::RW));
    assert!(probe::store(at, 7));
    prove("a fetch from a no-execute page is refused", !probe::fetch(at));
    on.protect(at, 2, Prot::READ);
    prove(
        "a write to a page that became read-only is refused, for the kernel too",
        !probe::store(at, 8),
    );
    prove("and has changed nothing", probe::load(at) == Some(7));
    prove("a page that was never touched is just as read-only", !probe::store(at + PAGE_SIZE, 8));
    on.protect(at, 1, Prot::RX);
    prove("once executable, it is executed", probe::fetch(at) && !probe::store(at, 8));
    on.protect(at, 2, Prot::NONE);
    prove(
        "without any rights, every access is refused",
        probe::load(at).is_none() && !probe::store(at, 8) && !probe::fetch(at),
    );
    on.protect(at, 2, Prot::RW);
    prove(
        "and the contents are still there afterwards",
        probe::load(at) == Some(7) && probe::store(at, 9),
    );
    on.unmap(at, 2);
}

fn guards_and_holes(on: &Ground<'_>) {
    let at = on.map(5, Attrs::new(Prot::RW));
    on.protect(at, 1, Prot::NONE);
    on.unmap(at + 2 * PAGE_SIZE, 1);
    prove(
        "an access to a guard page is refused",
        probe::load(at).is_none() && !probe::store(at, 1),
    );
    prove("an access to a hole between two VMAs is refused", !probe::store(at + 2 * PAGE_SIZE, 1));
    prove(
        "around guard and hole, accesses are made",
        [1, 3, 4].iter().all(|page| probe::store(at + page * PAGE_SIZE, *page)),
    );
    on.unmap(at, 5);
}

fn moving(on: &Ground<'_>) {
    let from = on.map(3, Attrs::new(Prot::RW));
    let to = on.map(3, Attrs::new(Prot::RW));
    on.unmap(to, 3);
    assert!(probe::store(from, 1) && probe::store(from + 2 * PAGE_SIZE, 3));
    on.relocate(from, 3, to);
    let mut value = None;
    let untouched = faults(|| value = probe::load(to + PAGE_SIZE));
    prove(
        "moved pages take their contents along",
        probe::load(to) == Some(1) && probe::load(to + 2 * PAGE_SIZE) == Some(3),
    );
    prove("a page without contents faults at its new place", untouched == 1 && value == Some(0));
    prove(
        "the old place is refused",
        probe::load(from).is_none() && !probe::store(from + 2 * PAGE_SIZE, 1),
    );
    on.unmap(to, 3);
}

fn shared_objects(on: &Ground<'_>) {
    let object = |flags: VmaFlags, offset| {
        let attrs = Attrs::new(Prot::RW);
        attrs.with_flags(attrs.flags() | flags).with_backing(Backing::Object { id: 1, offset })
    };
    let page = |page| Origin::Object { id: 1, page }.first_word();
    let private = on.map(4, object(VmaFlags::empty(), 16));
    on.unmap(private + PAGE_SIZE, 1);
    prove(
        "a file's pages keep their offsets when the VMA is cut",
        probe::load(private) == Some(page(16))
            && probe::load(private + 2 * PAGE_SIZE) == Some(page(18)),
    );
    let one = on.map(2, object(VmaFlags::SHARED, 16));
    let other = on.map(1, object(VmaFlags::SHARED, 17));
    assert!(probe::store(one + PAGE_SIZE, 99));
    prove(
        "what is written to a shared page shows wherever it is mapped",
        probe::load(other) == Some(99),
    );
    prove(
        "but not in private mappings",
        probe::store(private, 98) && probe::load(one) == Some(page(16)),
    );
}
