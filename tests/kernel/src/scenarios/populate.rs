//! Pages that are brought in by request cause no fault afterwards.

use super::{
    program::{AT, Program, RW, Shown, load, store},
    prove,
};
use crate::{fault::LOOKUPS, paging::PAGE_SIZE};
use core::sync::atomic::Ordering::Relaxed;
use kvma::{
    Errno,
    linux::abi::{MAP_POPULATE, PROT_READ},
};

const PAGES: u64 = 4;
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;

pub fn run(on: &Program) {
    at_once(on);
    after_a_fork(on);
    up_to_a_guard(on);
}

/// Whether `access` is made to each page, and faults on none.
fn without_faults(access: impl Fn(u64) -> bool) -> bool {
    let before = LOOKUPS.load(Relaxed);
    (0..PAGES).all(access) && LOOKUPS.load(Relaxed) == before
}

fn at_once(on: &Program) {
    on.map(0, PAGES, RW, MAP_POPULATE);
    prove(
        "memory that is mapped to be there at once is, to be written to as well",
        without_faults(|page| load(page) == Some(0) && store(page, 1)),
    );
    on.map_shared(0, PAGES, PROT_READ, Shown(5));
    on.advise(0, PAGES, POPULATE_READ);
    prove(
        "pages brought in as if they were read can be read",
        without_faults(|page| load(page).is_some()),
    );
    on.unmap(0, PAGES);
}

fn after_a_fork(on: &Program) {
    on.map(0, PAGES, RW, MAP_POPULATE);
    let child = on.fork();
    on.advise(0, PAGES, POPULATE_WRITE);
    prove(
        "pages brought in as if they were written are copied before, if a child has them",
        without_faults(|page| store(page, 2)) && child.0.visit(|| load(0)) == Some(0),
    );
    child.0.end();
    on.unmap(0, PAGES);
}

fn up_to_a_guard(on: &Program) {
    on.map(0, PAGES + 1, RW, 0);
    on.advise(PAGES, 1, GUARD_INSTALL);
    let all = (PAGES + 1) * PAGE_SIZE;
    let refused = on.0.change(|mm, call| mm.madvise(AT, all, POPULATE_WRITE, call));
    prove(
        "a guard cannot be brought in, but what comes before it",
        refused == Err(Errno::EFAULT) && without_faults(|page| store(page, 3)) && !store(PAGES, 3),
    );
    on.unmap(0, PAGES + 1);
}
