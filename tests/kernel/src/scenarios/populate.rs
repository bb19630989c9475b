//! Pages that are populated by request cause no faults afterwards.

use core::sync::atomic::Ordering::Relaxed;

use kvma::Errno;
use kvma::linux::abi::{MAP_POPULATE, PROT_READ};

use super::check;
use super::program::{AT, Program, RW, TestFile, load, store};
use crate::fault::LOOKUPS;
use crate::paging::PAGE_SIZE;

const PAGES: u64 = 4;
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;

pub fn run(program: &Program) {
    at_once(program);
    after_a_fork(program);
    up_to_a_guard(program);
}

/// Returns true if `access` is made to every page without a fault.
fn without_faults(access: impl Fn(u64) -> bool) -> bool {
    let before = LOOKUPS.load(Relaxed);
    (0..PAGES).all(access) && LOOKUPS.load(Relaxed) == before
}

fn at_once(program: &Program) {
    program.map(0, PAGES, RW, MAP_POPULATE);
    check(
        "MAP_POPULATE leaves no faults, for stores either",
        without_faults(|page| load(page) == Some(0) && store(page, 1)),
    );
    program.map_shared(0, PAGES, PROT_READ, TestFile(5));
    program.advise(0, PAGES, POPULATE_READ);
    check(
        "MADV_POPULATE_READ leaves no faults for loads",
        without_faults(|page| load(page).is_some()),
    );
    program.unmap(0, PAGES);
}

fn after_a_fork(program: &Program) {
    program.map(0, PAGES, RW, MAP_POPULATE);
    let child = program.fork();
    program.advise(0, PAGES, POPULATE_WRITE);
    check(
        "MADV_POPULATE_WRITE copies pages that are shared with a child",
        without_faults(|page| store(page, 2)) && child.0.visit(|| load(0)) == Some(0),
    );
    child.0.end();
    program.unmap(0, PAGES);
}

fn up_to_a_guard(program: &Program) {
    program.map(0, PAGES + 1, RW, 0);
    program.advise(PAGES, 1, GUARD_INSTALL);
    let all = (PAGES + 1) * PAGE_SIZE;
    let refused = program.0.change(|mm, call| mm.madvise(AT, all, POPULATE_WRITE, call));
    check(
        "populating stops at a guard, after the pages before it",
        refused == Err(Errno::EFAULT) && without_faults(|page| store(page, 3)) && !store(PAGES, 3),
    );
    program.unmap(0, PAGES + 1);
}
