//! Huge pages: where they are mapped, and that a change of a part of one changes no other part.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use kvma::linux::abi::PROT_READ;

use super::program::{Program, RW, at, load, store};
use super::races::overtake;
use super::{agreement, check};
use crate::fault::{Again, COPIED, KEPT, LOOKUPS};
use crate::frames::{self, Use};
use crate::huge::{PAGES, SPLIT};
use crate::{cpus, probe};

const DONTNEED: u64 = 4;
const DONTFORK: u64 = 10;
pub const HUGEPAGE: u64 = 14;
const NOHUGEPAGE: u64 = 15;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

/// A page in the middle of the first huge page, and those before and after it.
const MIDDLE: u64 = 200;
const AROUND: [u64; 2] = [MIDDLE - 1, MIDDLE + 1];

pub fn run(program: &Program) {
    mapping(program);
    falling_back(program);
    parts(program);
    moving(program);
    forking(program);
    racing(program);
    under_writes(program);
}

/// Maps so many huge pages from page 0 on. One of them is mapped by a large leaf, and its pages
/// around [`MIDDLE`] are written to: each holds its number.
fn map(program: &Program, count: u64) {
    program.map(0, count * PAGES, RW, 0);
    program.advise(0, count * PAGES, HUGEPAGE);
    assert!((MIDDLE - 1..=MIDDLE + 1).all(|page| store(page, page)) && is_large(program, MIDDLE));
}

fn unmap(program: &Program, pages: u64) {
    agreement::check(&[program]);
    program.unmap(0, pages);
}

fn is_large(program: &Program, page: u64) -> bool {
    program.0.pages.lock().tables.large_leaf(at(page)).is_some()
}

/// Returns the number of large leaves that are split while `run` runs.
fn splits(run: impl FnOnce()) -> u64 {
    let before = SPLIT.load(Relaxed);
    run();
    SPLIT.load(Relaxed) - before
}

/// Returns true if the pages around the middle still hold what [`map`] has written, on both
/// processors, and can be written to.
fn around_is_intact() -> bool {
    let intact = || AROUND.into_iter().all(|page| load(page) == Some(page));
    intact() && cpus::on_second(intact) && AROUND.into_iter().all(|page| store(page, page))
}

fn mapping(program: &Program) {
    // One huge page fits in, and a part of one on either side.
    program.map(1, 2 * PAGES, RW, 0);
    assert!(store(MIDDLE, 1) && !is_large(program, MIDDLE));
    program.advise(1, 2 * PAGES, HUGEPAGE);
    assert!(store(PAGES + MIDDLE, 2));
    let before = LOOKUPS.load(Relaxed);
    check("a fault maps 2 MiB by one entry where that is asked for (MADV_HUGEPAGE)", {
        is_large(program, PAGES)
            && (PAGES..2 * PAGES).all(|page| store(page, page) && load(page) == Some(page))
            && cpus::on_second(|| load(PAGES + 1) == Some(PAGES + 1))
            && LOOKUPS.load(Relaxed) == before
    });
    check(
        "but a page where the 2 MiB do not lie in the VMA",
        store(PAGES - 1, 3) && store(2 * PAGES, 4) && !is_large(program, 1),
    );
    agreement::check(&[program]);
    program.unmap(1, 2 * PAGES);
}

fn falling_back(program: &Program) {
    program.map(0, 2 * PAGES, RW, 0);
    assert!(store(1, 1));
    program.advise(0, 2 * PAGES, HUGEPAGE);
    check(
        "and where one of their pages is mapped already",
        store(MIDDLE, 2) && !is_large(program, MIDDLE) && load(1) == Some(1),
    );
    program.advise(0, 2 * PAGES, NOHUGEPAGE);
    check(
        "or where huge pages are no longer asked for",
        store(PAGES, 3) && !is_large(program, PAGES),
    );
    program.advise(PAGES, PAGES, DONTNEED);
    unmap(program, 2 * PAGES);

    program.map(0, 2 * PAGES, RW, 0);
    program.advise(0, 2 * PAGES, HUGEPAGE);
    program.advise(0, 2 * PAGES, POPULATE_WRITE);
    let before = LOOKUPS.load(Relaxed);
    check(
        "populating maps huge pages as well",
        is_large(program, 0)
            && is_large(program, PAGES)
            && store(PAGES, 1)
            && LOOKUPS.load(Relaxed) == before,
    );
    unmap(program, 2 * PAGES);
}

/// Each change concerns one page of a huge page.
fn parts(program: &Program) {
    let tables = frames::in_use(Use::Table);
    map(program, 1);
    let with_leaf = frames::in_use(Use::Table);
    program.unmap(MIDDLE, 1);
    check(
        "an unmapped page of a huge page is refused, on both processors",
        load(MIDDLE).is_none() && cpus::on_second(|| !store(MIDDLE, 1)),
    );
    check(
        "and the others keep their contents and rights; no memory was needed for that",
        around_is_intact() && !is_large(program, 0) && frames::in_use(Use::Table) == with_leaf,
    );
    unmap(program, PAGES);
    check("nor is any left", frames::in_use(Use::Table) == tables);

    map(program, 1);
    program.protect(MIDDLE, 1, PROT_READ);
    check("a page of a huge page that becomes read-only is the only one", {
        let refused = || !store(MIDDLE, 1) && load(MIDDLE) == Some(MIDDLE);
        refused() && cpus::on_second(refused) && around_is_intact()
    });
    unmap(program, PAGES);

    map(program, 1);
    let own = frames::in_use(Use::Private);
    program.advise(MIDDLE, 1, DONTNEED);
    check("a page of a huge page that is given back is freed alone, and shows zeros", {
        let freed = frames::in_use(Use::Private) == own - 1;
        freed && cpus::on_second(|| load(MIDDLE) == Some(0)) && around_is_intact()
    });
    program.advise(0, PAGES, DONTNEED);
    unmap(program, PAGES);

    map(program, 1);
    program.advise(0, PAGES, DONTNEED);
    check(
        "a huge page that is given back as a whole comes back as one, with zeros",
        load(MIDDLE) == Some(0) && is_large(program, MIDDLE),
    );
    program.advise(MIDDLE, 1, GUARD_INSTALL);
    check("a guard in a huge page refuses, and its neighbours do not", {
        let refused = || load(MIDDLE).is_none() && !store(MIDDLE, 1);
        refused() && cpus::on_second(refused) && AROUND.map(load) == [Some(0); 2]
    });
    program.advise(MIDDLE, 1, GUARD_REMOVE);
    unmap(program, PAGES);

    map(program, 1);
    let split = splits(|| program.protect(0, PAGES, PROT_READ));
    check(
        "a huge page that becomes read-only as a whole stays one, and so when it is writable again",
        split == 0 && !store(MIDDLE, 1) && cpus::on_second(|| !store(0, 1)) && {
            program.protect(0, PAGES, RW);
            store(MIDDLE, MIDDLE) && around_is_intact() && is_large(program, MIDDLE)
        },
    );
    program.advise(MIDDLE, 1, DONTFORK);
    check(
        "one is split where its VMA is, without any change of rights",
        !is_large(program, 0) && around_is_intact() && load(MIDDLE) == Some(MIDDLE),
    );
    unmap(program, PAGES);
}

fn moving(program: &Program) {
    map(program, 2);
    let split = splits(|| program.relocate(0, PAGES, 4 * PAGES));
    let moved = 4 * PAGES + MIDDLE;
    check("a huge page moves as one", {
        let shown = || load(moved) == Some(MIDDLE) && load(MIDDLE).is_none();
        split == 0 && is_large(program, moved) && shown() && cpus::on_second(shown)
    });
    let split = splits(|| program.relocate(4 * PAGES, PAGES, 1));
    check("but page by page to where 2 MiB do not begin", {
        let shown = || load(1 + MIDDLE) == Some(MIDDLE) && load(moved).is_none();
        split == 1 && shown() && cpus::on_second(shown)
    });
    unmap(program, 2 * PAGES);

    // A table without pages, whose VMA moves away.
    program.map(0, PAGES, RW, 0);
    assert!(store(MIDDLE, 1));
    program.advise(0, PAGES, DONTNEED);
    program.relocate(0, PAGES, 2 * PAGES);
    map(program, 1);
    check("nothing is left in its way where other pages were", is_large(program, 0));
    unmap(program, 3 * PAGES);

    map(program, 1);
    program.relocate(MIDDLE, 1, 3 * PAGES);
    check("and so does a part of one", {
        let shown = || load(3 * PAGES) == Some(MIDDLE) && load(MIDDLE).is_none();
        shown() && cpus::on_second(shown) && around_is_intact()
    });
    unmap(program, 3 * PAGES + 1);
}

fn forking(parent: &Program) {
    map(parent, 1);
    let own = frames::in_use(Use::Private);
    let child = parent.fork();
    agreement::check(&[parent, &child]);
    check("a fork shares huge pages as such", {
        let in_child = child.0.visit(|| load(MIDDLE)) == Some(MIDDLE);
        in_child && is_large(parent, 0) && is_large(&child, 0)
    });
    let copied = COPIED.load(Relaxed);
    check("what the parent writes to one goes to a copy of the page alone", {
        let stored = cpus::on_second(|| store(MIDDLE, 1));
        stored && COPIED.load(Relaxed) == copied + 1 && frames::in_use(Use::Private) == own + 1
    });
    check("which the child does not see, whose huge page stays one", {
        child.0.visit(|| load(MIDDLE)) == Some(MIDDLE)
            && !is_large(parent, 0)
            && is_large(&child, 0)
            && around_is_intact()
    });
    agreement::check(&[parent, &child]);
    check("and so for what the child writes", {
        child.0.visit(|| store(AROUND[0], 2) && load(AROUND[0]) == Some(2))
            && load(AROUND[0]) == Some(AROUND[0])
            && load(MIDDLE) == Some(1)
    });
    agreement::check(&[parent, &child]);
    child.0.end();
    unmap(parent, PAGES);

    map(parent, 1);
    parent.fork().0.end();
    let kept = KEPT.load(Relaxed);
    check("a huge page whose other owners have ended is written to as it is", {
        store(MIDDLE, MIDDLE) && around_is_intact() && is_large(parent, 0)
    });
    check("after one fault", KEPT.load(Relaxed) == kept + 1);
    unmap(parent, PAGES);
}

fn racing(program: &Program) {
    program.map(0, PAGES, RW, 0);
    program.advise(0, PAGES, HUGEPAGE);
    assert!(store(0, 1));
    program.advise(0, PAGES, DONTNEED);
    let fault = overtake(at(0), probe::load, |_| program.advise(MIDDLE, 1, DONTNEED));
    check(
        "a fault that maps 2 MiB is overtaken by a change of any page there",
        fault.result == Some(0) && fault.invalid == 1 && is_large(program, 0),
    );
    program.advise(0, PAGES, DONTNEED);
    let overtaken = Again::Overtaken.count();
    let fault = overtake(at(0), probe::load, |_| assert!(store(MIDDLE, 2)));
    check(
        "and by a fault on any page there",
        fault.result == Some(0)
            && Again::Overtaken.count() == overtaken + 1
            && load(MIDDLE) == Some(2),
    );
    unmap(program, PAGES);
}

/// Huge pages that are split while the other processor writes to them, and its stores before and
/// after each split.
const ROUNDS: u64 = 8;
const STORES: u64 = 32;

fn under_writes(program: &Program) {
    let [begun, over, answered, stores] = [const { AtomicU64::new(0) }; 4];
    let job = || {
        for round in 1..=ROUNDS {
            cpus::wait(|| begun.load(SeqCst) >= round);
            while over.load(SeqCst) < round {
                let number = stores.load(SeqCst) + 1;
                assert!(store(MIDDLE, number), "a store to a huge page was refused");
                let shown = load(MIDDLE);
                assert!(shown == Some(number), "{number} was stored, and {shown:x?} is there");
                stores.store(number, SeqCst);
                cpus::wake();
            }
            answered.store(round, SeqCst);
            cpus::wake();
        }
    };
    let let_it_write = || {
        let awaited = stores.load(SeqCst) + STORES;
        cpus::wait(|| stores.load(SeqCst) >= awaited);
    };
    let kept = cpus::beside(&job, || {
        let kept = (1..=ROUNDS).filter(|&round| {
            map(program, 1);
            begun.store(round, SeqCst);
            cpus::wake();
            let_it_write();
            let split = splits(|| program.protect(AROUND[1], 1, PROT_READ));
            let_it_write();
            over.store(round, SeqCst);
            cpus::wait(|| answered.load(SeqCst) == round);
            split == 1 && load(MIDDLE) == Some(stores.load(SeqCst))
        });
        kept.count() as u64
    });
    check(
        "while another processor writes to huge pages that are split, no store is lost",
        kept == ROUNDS,
    );
    unmap(program, PAGES);
}
