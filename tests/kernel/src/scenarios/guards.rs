//! Guards refuse until they are removed or their VMA goes, wherever it moves and whoever inherits
//! it.

use super::{
    program::{Program, RW, Shown, at, load, store},
    prove,
    races::overtake,
    stack::refusal,
};
use crate::{cpus, probe};
use kvma::linux::{SegvCode, abi::PROT_READ};

const DONTNEED: u64 = 4;
const WIPEONFORK: u64 = 18;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

pub fn run(on: &Program) {
    refusing(on);
    staying(on);
    inheriting(on);
    racing(on);
}

/// Whether all accesses of the page are refused as if nothing were mapped there.
fn refuses(page: u64) -> bool {
    let loads = || load(page).is_some();
    [refusal(loads), refusal(|| store(page, 1))].iter().all(|code| *code == Some(SegvCode::MapErr))
}

fn refusing(on: &Program) {
    on.map(0, 4, RW, 0);
    assert!((0..4).all(|page| store(page, 10 + page) && cpus::on_second(|| load(page)) == Some(10 + page)));
    on.advise(1, 2, GUARD_INSTALL);
    prove(
        "a guard refuses as if nothing were mapped there, on both processors",
        refuses(1) && refuses(2) && cpus::on_second(|| load(1).is_none() && !store(2, 1)),
    );
    prove("around guards, accesses are made", load(0) == Some(10) && load(3) == Some(13));
    on.advise(0, 3, GUARD_REMOVE);
    prove(
        "removed, it shows zeros, and what was no guard what it did",
        load(1) == Some(0) && store(1, 1) && load(0) == Some(10),
    );
    on.unmap(0, 4);
}

fn staying(on: &Program) {
    on.map(0, 3, RW, 0);
    on.advise(1, 1, GUARD_INSTALL);
    on.advise(0, 3, DONTNEED);
    on.protect(0, 3, PROT_READ);
    prove(
        "what the VMA does not allow, a guard refuses as that",
        refusal(|| store(1, 1)) == Some(SegvCode::AccErr),
    );
    on.protect(0, 3, RW);
    prove("guards stay when pages are dropped and rights change", refuses(1) && store(0, 1));
    on.relocate(0, 3, 8);
    prove("they move with their VMA", refuses(9) && load(8) == Some(1) && load(10) == Some(0));
    on.map(8, 3, RW, 0);
    prove("and go with it", load(9) == Some(0));
    on.unmap(8, 3);
}

fn inheriting(on: &Program) {
    on.map(0, 1, RW, 0);
    on.map_shared(2, 1, RW, Shown(9));
    on.map(4, 1, RW, 0);
    on.advise(4, 1, WIPEONFORK);
    assert!(store(2, 7));
    [0, 2, 4].into_iter().for_each(|page| on.advise(page, 1, GUARD_INSTALL));
    let child = on.fork();
    prove(
        "a child inherits guards, of shared memory, too",
        child.0.visit(|| refuses(0) && refuses(2)),
    );
    prove("but not of what it sees as zeros", child.0.visit(|| load(4)) == Some(0) && refuses(4));
    [0, 2].into_iter().for_each(|page| child.advise(page, 1, GUARD_REMOVE));
    prove("and removes them for itself", {
        child.0.visit(|| load(0) == Some(0) && load(2) == Some(7)) && refuses(0) && refuses(2)
    });
    child.0.end();
    on.unmap(0, 5);
}

fn racing(on: &Program) {
    on.map(0, 1, RW, 0);
    let fault = overtake(at(0), |page| probe::store(page, 1), |_| on.advise(0, 1, GUARD_INSTALL));
    prove(
        "a store whose fault is overtaken by a guard is refused",
        !fault.result && fault.invalid == 1 && refuses(0),
    );
    on.unmap(0, 1);
}
