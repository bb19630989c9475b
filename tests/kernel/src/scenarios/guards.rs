//! Guards refuse accesses until they are removed or their VMA is unmapped. They move with the VMA
//! and are inherited.

use kvma::linux::SegvCode;
use kvma::linux::abi::PROT_READ;

use super::check;
use super::program::{Program, RW, TestFile, at, load, store};
use super::races::overtake;
use super::stack::refusal;
use crate::{cpus, probe};

const DONTNEED: u64 = 4;
const WIPEONFORK: u64 = 18;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

pub fn run(program: &Program) {
    refusing(program);
    staying(program);
    inheriting(program);
    racing(program);
}

/// Returns true if every access to the page is refused as if nothing were mapped there.
fn refuses(page: u64) -> bool {
    let loads = || load(page).is_some();
    [refusal(loads), refusal(|| store(page, 1))].iter().all(|code| *code == Some(SegvCode::MapErr))
}

fn refusing(program: &Program) {
    program.map(0, 4, RW, 0);
    let shows = |page, value| cpus::on_second(|| load(page)) == Some(value);
    assert!((0..4).all(|page| store(page, 10 + page) && shows(page, 10 + page)));
    program.advise(1, 2, GUARD_INSTALL);
    check(
        "a guard refuses accesses as if nothing were mapped, on both processors",
        refuses(1) && refuses(2) && cpus::on_second(|| load(1).is_none() && !store(2, 1)),
    );
    check("around guards, accesses are made", load(0) == Some(10) && load(3) == Some(13));
    program.advise(0, 3, GUARD_REMOVE);
    check(
        "a removed guard shows zeros, and its neighbours keep their contents",
        load(1) == Some(0) && store(1, 1) && load(0) == Some(10),
    );
    program.unmap(0, 4);
}

fn staying(program: &Program) {
    program.map(0, 3, RW, 0);
    program.advise(1, 1, GUARD_INSTALL);
    program.advise(0, 3, DONTNEED);
    program.protect(0, 3, PROT_READ);
    check(
        "an access that the VMA forbids is refused as such, also at a guard",
        refusal(|| store(1, 1)) == Some(SegvCode::AccErr),
    );
    program.protect(0, 3, RW);
    check("guards stay when pages are dropped and rights change", refuses(1) && store(0, 1));
    program.relocate(0, 3, 8);
    check("they move with their VMA", refuses(9) && load(8) == Some(1) && load(10) == Some(0));
    program.map(8, 3, RW, 0);
    check("and go when it is replaced", load(9) == Some(0));
    program.unmap(8, 3);
}

fn inheriting(program: &Program) {
    program.map(0, 1, RW, 0);
    program.map_shared(2, 1, RW, TestFile(9));
    program.map(4, 1, RW, 0);
    program.advise(4, 1, WIPEONFORK);
    assert!(store(2, 7));
    [0, 2, 4].into_iter().for_each(|page| program.advise(page, 1, GUARD_INSTALL));
    let child = program.fork();
    check(
        "a child inherits guards, even in shared memory",
        child.0.visit(|| refuses(0) && refuses(2)),
    );
    check(
        "but not in memory that is wiped on fork",
        child.0.visit(|| load(4)) == Some(0) && refuses(4),
    );
    [0, 2].into_iter().for_each(|page| child.advise(page, 1, GUARD_REMOVE));
    check("and removing them in the child leaves the parent's", {
        child.0.visit(|| load(0) == Some(0) && load(2) == Some(7)) && refuses(0) && refuses(2)
    });
    child.0.end();
    program.unmap(0, 5);
}

fn racing(program: &Program) {
    program.map(0, 1, RW, 0);
    let fault =
        overtake(at(0), |page| probe::store(page, 1), |_| program.advise(0, 1, GUARD_INSTALL));
    check(
        "a store whose fault is overtaken by a guard is refused",
        !fault.result && fault.invalid == 1 && refuses(0),
    );
    program.unmap(0, 1);
}
