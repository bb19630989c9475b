//! Forks: the pages that they share, and which process sees later writes.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use kvma::linux::abi::PROT_READ;

use super::check;
use super::program::{PROT_NONE, Program, RW, TestFile, load, store};
use crate::cpus;
use crate::fault::{COPIED, KEPT};
use crate::frames::{self, Use};

const DONTFORK: u64 = 10;
const WIPEONFORK: u64 = 18;

pub fn run(parent: &Program) {
    inheriting(parent);
    copying(parent);
    by_request(parent);
    rights_given_later(parent);
    generations(parent);
    freezing(parent);
}

/// Returns the number of frames of private pages.
fn own_frames() -> usize {
    frames::in_use(Use::Private)
}

/// Returns the numbers of pages that are copied and kept while `run` runs.
fn copied_and_kept(run: impl FnOnce()) -> (u64, u64) {
    let before = (COPIED.load(Relaxed), KEPT.load(Relaxed));
    run();
    (COPIED.load(Relaxed) - before.0, KEPT.load(Relaxed) - before.1)
}

fn inheriting(parent: &Program) {
    parent.map(0, 4, RW, 0);
    assert!((0..3).all(|page| store(page, 10 + page)));
    let before = own_frames();
    let child = parent.fork();
    let seen = child.0.visit(|| [0, 1, 2].map(load));
    check(
        "a child sees what its parent has written, and no page is copied for that",
        seen == [Some(10), Some(11), Some(12)] && own_frames() == before,
    );
    assert!(store(3, 13));
    check(
        "a page that the parent had not accessed shows zeros to the child",
        child.0.visit(|| load(3)) == Some(0),
    );
    child.0.end();
    check(
        "a child that ends leaves the parent's pages",
        [0, 1, 2, 3].map(load) == [10, 11, 12, 13].map(Some),
    );
    parent.unmap(0, 4);
}

fn copying(parent: &Program) {
    parent.map(0, 2, RW, 0);
    assert!(store(0, 1) && store(1, 2));
    let child = parent.fork();
    let by_parent = copied_and_kept(|| assert!(store(0, 3)));
    check(
        "what the parent writes after a fork goes to a copy, which the child does not see",
        by_parent == (1, 0) && child.0.visit(|| load(0)) == Some(1),
    );
    let by_child = copied_and_kept(|| assert!(child.0.visit(|| store(1, 4))));
    check(
        "what the child writes goes to a copy, which the parent does not see",
        by_child == (1, 0) && load(1) == Some(2) && child.0.visit(|| load(1)) == Some(4),
    );
    let last = copied_and_kept(|| assert!(store(1, 5) && child.0.visit(|| store(0, 6))));
    check(
        "the last process with a page writes to it without a copy",
        last == (0, 2) && load(0) == Some(3) && child.0.visit(|| load(1)) == Some(4),
    );
    child.0.end();
    parent.unmap(0, 2);
}

fn by_request(parent: &Program) {
    parent.map(0, 1, RW, 0);
    parent.map(2, 1, RW, 0);
    parent.map_shared(4, 2, RW, TestFile(7));
    parent.advise(0, 1, WIPEONFORK);
    parent.advise(2, 1, DONTFORK);
    assert!(store(0, 1) && store(2, 2) && store(4, 3));
    let child = parent.fork();
    check(
        "a child sees zeros where that was asked for (MADV_WIPEONFORK)",
        child.0.visit(|| load(0)) == Some(0),
    );
    check(
        "and nothing where that was asked for (MADV_DONTFORK)",
        child.0.visit(|| load(2).is_none() && !store(2, 9)) && child.begin(2).is_none(),
    );
    check("the parent keeps both", load(0) == Some(1) && load(2) == Some(2) && store(2, 4));
    check("shared memory stays shared, in both directions", {
        assert!(store(4, 5) && child.0.visit(|| store(5, 6)));
        child.0.visit(|| load(4)) == Some(5) && load(5) == Some(6)
    });
    child.0.end();
    parent.unmap(0, 6);
}

/// A VMA that is made writable must not make the entries of shared frames writable.
fn rights_given_later(parent: &Program) {
    parent.map(0, 3, RW, 0);
    assert!((0..3).all(|page| store(page, 10 + page)));
    parent.protect(0, 1, PROT_NONE);
    parent.protect(1, 1, PROT_READ);
    let child = parent.fork();
    parent.protect(0, 3, RW);
    check("a page that was not accessible at the fork is copied once it is writable", {
        store(0, 20) && store(1, 21) && child.0.visit(|| load(0).is_none() && load(1) == Some(11))
    });
    child.protect(0, 2, RW);
    check("and for the child as well", {
        child.0.visit(|| load(0) == Some(10) && store(1, 31)) && load(1) == Some(21)
    });
    parent.relocate(2, 1, 8);
    check("a page that has moved since the fork is still copied", {
        store(8, 22) && child.0.visit(|| load(2) == Some(12)) && load(8) == Some(22)
    });
    child.0.end();
    parent.unmap(0, 9);
}

fn generations(parent: &Program) {
    parent.map(0, 1, RW, 0);
    assert!(store(0, 1));
    let child = parent.fork();
    let grandchild = child.fork();
    let all = || [load(0), child.0.visit(|| load(0)), grandchild.0.visit(|| load(0))];
    assert!(child.0.visit(|| store(0, 2)));
    check("of three generations, each sees its own pages", all() == [1, 2, 1].map(Some));
    child.0.end();
    assert!(store(0, 3));
    check("even when the one in the middle has ended", {
        load(0) == Some(3)
            && grandchild.0.visit(|| load(0) == Some(1) && store(0, 4))
            && load(0) == Some(3)
    });
    grandchild.0.end();
    parent.unmap(0, 1);
}

/// Pages that the second processor keeps writing to, forks meanwhile, and stores between two checks
/// of a child.
const BUSY: u64 = 8;
const FORKS: u64 = 20;
const STORES: u64 = 32;

fn freezing(parent: &Program) {
    parent.map(0, BUSY, RW, 0);
    let (stores, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let job = || {
        while !stop.load(SeqCst) {
            let number = stores.load(SeqCst);
            assert!(store(number % BUSY, number + 1), "a store was refused");
            stores.store(number + 1, SeqCst);
            cpus::wake();
        }
    };
    let let_it_write = || {
        let awaited = stores.load(SeqCst) + STORES;
        cpus::wait(|| stores.load(SeqCst) >= awaited);
    };
    let look = || core::array::from_fn::<_, { BUSY as usize }, _>(|page| load(page as u64));
    let frozen = cpus::beside(&job, || {
        let frozen = (0..FORKS).all(|_| {
            let_it_write();
            let child = parent.fork();
            let first = child.0.visit(look);
            let_it_write();
            let frozen = first == child.0.visit(look);
            child.0.end();
            frozen
        });
        stop.store(true, SeqCst);
        frozen
    });
    check("while another processor keeps writing to the parent, no child sees any of it", frozen);
    parent.unmap(0, BUSY);
}
