//! Stacks grow where the program pushes something below them, as far as they may.

use super::{
    program::{PROT_NONE, Program, RW, at, load},
    prove,
};
use crate::{cpus, faulting::GROWN, paging::PAGE_SIZE, probe};
use core::sync::atomic::Ordering::Relaxed;
use kvma::linux::{
    Resource, SegvCode,
    abi::{MAP_GROWSDOWN, PROT_READ},
};

/// Number of the stack's last page, and of the pages that it may have.
const BASE: u64 = 4000;
const LIMIT: u64 = 600;
/// Pages that stay free between a stack and accessible memory below it.
const GAP: u64 = 256;

pub fn run(on: &Program) {
    on.0.change(|mm, _| mm.set_limits(mm.limits().with(Resource::Stack, LIMIT * PAGE_SIZE)));
    growing(on);
    together(on);
    limits(on);
    neighbours(on);
    read_only(on);
}

fn stack(on: &Program) {
    on.map(BASE, 1, RW, MAP_GROWSDOWN);
}

/// A push onto this page, by a program whose stack ends there.
fn push(page: u64) -> bool {
    probe::push(at(page), page, at(page))
}

/// How the access was refused, if it was.
pub fn refusal(access: impl FnOnce() -> bool) -> Option<SegvCode> {
    match (access(), probe::refusal()) {
        (true, 0) => None,
        (false, 1) => Some(SegvCode::MapErr),
        (false, 2) => Some(SegvCode::AccErr),
        (made, code) => panic!("an access, made: {made}, was refused by code {code}"),
    }
}

fn growing(on: &Program) {
    stack(on);
    let grown = GROWN.load(Relaxed);
    prove(
        "a push right below a stack makes it grow by a page",
        push(BASE - 1)
            && on.begin(BASE) == Some(BASE - 1)
            && probe::load(at(BASE - 1)) == Some(BASE - 1),
    );
    prove(
        "one further down makes it grow to there, and what is between holds zeros",
        push(BASE - 9) && on.begin(BASE) == Some(BASE - 9) && probe::load(at(BASE - 4)) == Some(0),
    );
    prove(
        "an access of the kernel's is refused, as is a push far below the stack pointer",
        refusal(|| probe::store(at(BASE - 10), 1)) == Some(SegvCode::MapErr)
            && refusal(|| probe::push(at(BASE - 40), 1, at(BASE))) == Some(SegvCode::MapErr),
    );
    prove(
        "and nothing grows for them",
        on.begin(BASE) == Some(BASE - 9) && GROWN.load(Relaxed) == grown + 2,
    );
    prove(
        "where nobody asks for a stack pointer, as on Linux, any access of the program makes it grow",
        load(BASE - 40) == Some(0) && on.begin(BASE) == Some(BASE - 40),
    );
    on.unmap(BASE - 40, 41);
}

/// Both processors push at the same time, neither far below the other.
fn together(on: &Program) {
    const PUSHES: u64 = 100;
    stack(on);
    let pushes = |odd| (1..PUSHES / 2).all(|pair| push(BASE - 2 * pair - odd));
    let second = core::sync::atomic::AtomicBool::new(false);
    let first = cpus::beside(&|| second.store(pushes(1), Relaxed), || pushes(0));
    let down = BASE - PUSHES + 1;
    prove(
        "two processors that push onto one stack both find what they have pushed",
        first
            && second.load(Relaxed)
            && on.begin(BASE) == Some(down)
            && (down..BASE - 1).all(|page| probe::load(at(page)) == Some(page)),
    );
    on.unmap(down, BASE - down + 1);
}

fn limits(on: &Program) {
    stack(on);
    let lowest = BASE + 1 - LIMIT;
    prove("a stack grows as far as its limit says", push(lowest) && on.begin(BASE) == Some(lowest));
    prove(
        "beyond that, a push is refused as unmapped",
        refusal(|| push(lowest - 1)) == Some(SegvCode::MapErr) && on.begin(BASE) == Some(lowest),
    );
    on.unmap(lowest, LIMIT);
}

fn neighbours(on: &Program) {
    let below = BASE - 300;
    on.map(below, 1, RW, 0);
    stack(on);
    let lowest = below + 1 + GAP;
    prove(
        "a push into the gap above other memory is refused as unmapped",
        refusal(|| push(lowest - 1)) == Some(SegvCode::MapErr) && on.begin(BASE) == Some(BASE),
    );
    prove("right above the gap it is made", push(lowest) && on.begin(BASE) == Some(lowest));
    on.protect(below, 1, PROT_NONE);
    prove(
        "memory without access needs no gap, and stops the stack",
        push(below + 1) && refusal(|| push(below)) == Some(SegvCode::AccErr),
    );
    on.unmap(below, 301);
}

fn read_only(on: &Program) {
    on.map(BASE, 1, PROT_READ, MAP_GROWSDOWN);
    prove(
        "a push below a stack that cannot be written makes it grow and is refused as not allowed",
        refusal(|| push(BASE - 1)) == Some(SegvCode::AccErr) && on.begin(BASE) == Some(BASE - 1),
    );
    on.unmap(BASE - 1, 2);
}
