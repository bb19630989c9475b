//! Stacks grow when the program pushes below them, as far as they may.

use core::sync::atomic::Ordering::Relaxed;

use kvma::linux::abi::{MAP_GROWSDOWN, PROT_READ};
use kvma::linux::{Resource, SegvCode};

use super::check;
use super::program::{PROT_NONE, Program, RW, at, load};
use crate::faulting::GROWN;
use crate::paging::PAGE_SIZE;
use crate::{cpus, probe};

/// The stack's last page.
const BASE: u64 = 4000;
/// The number of pages that the stack may have.
const LIMIT: u64 = 600;
/// The number of free pages that Linux keeps between a stack and accessible memory below it.
const GAP: u64 = 256;

pub fn run(program: &Program) {
    program.0.change(|mm, _| mm.set_limits(mm.limits().with(Resource::Stack, LIMIT * PAGE_SIZE)));
    growing(program);
    together(program);
    limits(program);
    neighbours(program);
    read_only(program);
}

fn stack(program: &Program) {
    program.map(BASE, 1, RW, MAP_GROWSDOWN);
}

/// Pushes onto this page, as a program whose stack ends there.
fn push(page: u64) -> bool {
    probe::push(at(page), page, at(page))
}

/// Returns the code with which the access was refused, if it was.
pub fn refusal(access: impl FnOnce() -> bool) -> Option<SegvCode> {
    match (access(), probe::refusal()) {
        (true, 0) => None,
        (false, 1) => Some(SegvCode::MapErr),
        (false, 2) => Some(SegvCode::AccErr),
        (made, code) => panic!("an access, made: {made}, was refused by code {code}"),
    }
}

fn growing(program: &Program) {
    stack(program);
    let grown = GROWN.load(Relaxed);
    check(
        "a push right below a stack makes it grow by a page",
        push(BASE - 1)
            && program.begin(BASE) == Some(BASE - 1)
            && probe::load(at(BASE - 1)) == Some(BASE - 1),
    );
    check(
        "a push further down makes it grow to there, and the pages between hold zeros",
        push(BASE - 9)
            && program.begin(BASE) == Some(BASE - 9)
            && probe::load(at(BASE - 4)) == Some(0),
    );
    check(
        "an access by the kernel is refused, and a push far below the stack pointer",
        refusal(|| probe::store(at(BASE - 10), 1)) == Some(SegvCode::MapErr)
            && refusal(|| probe::push(at(BASE - 40), 1, at(BASE))) == Some(SegvCode::MapErr),
    );
    check(
        "and nothing grows for them",
        program.begin(BASE) == Some(BASE - 9) && GROWN.load(Relaxed) == grown + 2,
    );
    check(
        "without a check of the stack pointer, as on Linux, any access makes it grow",
        load(BASE - 40) == Some(0) && program.begin(BASE) == Some(BASE - 40),
    );
    program.unmap(BASE - 40, 41);
}

/// Both processors push at the same time, at neighbouring addresses.
fn together(program: &Program) {
    const PUSHES: u64 = 100;
    stack(program);
    let pushes = |odd| (1..PUSHES / 2).all(|pair| push(BASE - 2 * pair - odd));
    let second = core::sync::atomic::AtomicBool::new(false);
    let first = cpus::beside(&|| second.store(pushes(1), Relaxed), || pushes(0));
    let down = BASE - PUSHES + 1;
    check(
        "two processors push onto one stack, and both find what they have pushed",
        first
            && second.load(Relaxed)
            && program.begin(BASE) == Some(down)
            && (down..BASE - 1).all(|page| probe::load(at(page)) == Some(page)),
    );
    program.unmap(down, BASE - down + 1);
}

fn limits(program: &Program) {
    stack(program);
    let lowest = BASE + 1 - LIMIT;
    check(
        "a stack grows as far as its limit says",
        push(lowest) && program.begin(BASE) == Some(lowest),
    );
    check(
        "a push beyond the limit is refused as unmapped",
        refusal(|| push(lowest - 1)) == Some(SegvCode::MapErr)
            && program.begin(BASE) == Some(lowest),
    );
    program.unmap(lowest, LIMIT);
}

fn neighbours(program: &Program) {
    let below = BASE - 300;
    program.map(below, 1, RW, 0);
    stack(program);
    let lowest = below + 1 + GAP;
    check(
        "a push into the gap above other memory is refused as unmapped",
        refusal(|| push(lowest - 1)) == Some(SegvCode::MapErr) && program.begin(BASE) == Some(BASE),
    );
    check(
        "a push right above the gap is made",
        push(lowest) && program.begin(BASE) == Some(lowest),
    );
    program.protect(below, 1, PROT_NONE);
    check(
        "inaccessible memory below needs no gap, and stops the stack",
        push(below + 1) && refusal(|| push(below)) == Some(SegvCode::AccErr),
    );
    program.unmap(below, 301);
}

fn read_only(program: &Program) {
    program.map(BASE, 1, PROT_READ, MAP_GROWSDOWN);
    check(
        "a push below a read-only stack makes it grow and is refused as forbidden",
        refusal(|| push(BASE - 1)) == Some(SegvCode::AccErr)
            && program.begin(BASE) == Some(BASE - 1),
    );
    program.unmap(BASE - 1, 2);
}
