//! The work of a call grows with the logarithm of the number of VMAs, and with those that it
//! touches, whatever a program has made of its address space. Work is the number of nodes that
//! searches look at, which is the same each time. `cargo bench --bench worst` has the times.

extern crate std;

use std::sync::Arc;
use std::vec::Vec;

use crate::linux::abi::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, MREMAP_MAYMOVE, PROT_EXEC, PROT_READ,
    PROT_WRITE,
};
use crate::linux::{Layout, Limits, LinuxVma, Mm, Mmap, NoFile, NoKernel, Resource};
use crate::tree::visits;
use crate::{AddrSpace, BoxAlloc, Search, VmaNode};

const PAGE: u64 = 0x1000;
const FIRST: u64 = 0x1_0000_0000;
const MAP_32BIT: u64 = 0x40;
const RW: u64 = PROT_READ | PROT_WRITE;
const ANON: u64 = MAP_PRIVATE | MAP_ANONYMOUS;

type Space = AddrSpace<Mm<NoFile, Arc<BoxAlloc<VmaNode<LinuxVma<NoFile>>>>>>;

fn new_space() -> Space {
    let mut mm = Mm::new(Layout::x86_64(8 << 20), Arc::default()).unwrap();
    mm.set_max_map_count(usize::MAX);
    mm.set_limits(Limits::default().with(Resource::MemLock, u64::MAX));
    Space::new(mm)
}

fn args(addr: u64, pages: u64, prot: u64, flags: u64) -> Mmap<NoFile> {
    Mmap { addr, len: pages * PAGE, prot, flags: ANON | flags, offset: 0, file: None }
}

/// Maps `count` VMAs of `pages` pages, `apart` pages from start to start, in an order that is not
/// ascending.
fn row(first: u64, count: u64, pages: u64, apart: u64, flags: u64) -> Space {
    let space = new_space();
    for half in [0, 1] {
        for n in (half..count).step_by(2) {
            // No two that meet are alike.
            let prot = if n % 2 == 0 { RW } else { PROT_READ };
            let args = args(first + n * apart * PAGE, pages, prot, MAP_FIXED | flags);
            space.mmap(args, &mut NoKernel).unwrap();
        }
    }
    space
}

fn any<T, E>(_: Result<T, E>) {}

/// A call in one of these address spaces, with the number of its turn and that of all VMAs.
type Run = fn(&Space, u64, u64);

/// A name, the address space of so many VMAs, the call, and whether it touches all VMAs.
type Pattern = (&'static str, fn(u64) -> Space, Run, bool);

const PATTERNS: [Pattern; 17] = {
    const STACKS: fn(u64) -> Space = |count| row(FIRST, count, 1, 20, MAP_GROWSDOWN);
    const LOW: fn(u64) -> Space = |count| row(0x4000_0000, count, 1, 2, 0);
    const GAPS: fn(u64) -> Space = |count| row(FIRST, count, 3, 7, 0);
    const SHORT: fn(u64) -> Space = |count| row(FIRST, count, 2, 512, 0);
    const CLOSE: fn(u64) -> Space = |count| row(FIRST, count, 1, 1, 0);
    let (one, all) = (false, true);
    [
        (
            "stacks within their guard gaps: mmap",
            STACKS,
            |space, _, _| {
                any(space.mmap(args(0, 5, RW, 0), &mut NoKernel));
            },
            one,
        ),
        (
            "stacks: another stack",
            STACKS,
            |space, _, _| {
                any(space.mmap(args(0, 1, RW, MAP_GROWSDOWN), &mut NoKernel));
            },
            one,
        ),
        (
            "a full low window: MAP_32BIT",
            LOW,
            |space, _, _| {
                any(space.mmap(args(0, 0x4_0000, RW, MAP_32BIT), &mut NoKernel));
            },
            one,
        ),
        (
            "gaps of one size less a page: mmap",
            GAPS,
            |space, _, _| {
                any(space.mmap(args(0, 5, RW, 0), &mut NoKernel));
            },
            one,
        ),
        (
            "aligned, in misaligned gaps",
            GAPS,
            |space, _, _| {
                let search = Search::new().window(FIRST, u64::MAX).align(2 << 20);
                any(space.inspect(|mm| mm.map.find_gap(4 * PAGE, &search)));
            },
            one,
        ),
        (
            "aligned, where each gap is too short",
            SHORT,
            |space, _, _| {
                let search = Search::new().window(FIRST, u64::MAX).align(2 << 20);
                any(space.inspect(|mm| mm.map.find_gap(510 * PAGE, &search)));
            },
            one,
        ),
        (
            "aligned, from above",
            SHORT,
            |space, turn, count| {
                let last = FIRST + (count - turn) * 512 * PAGE;
                let search = Search::new().top_down().window(FIRST, last).align(2 << 20);
                any(space.inspect(|mm| mm.map.find_gap(511 * PAGE, &search)));
            },
            one,
        ),
        (
            "a random place",
            GAPS,
            |space, turn, count| {
                let search = Search::new().window(FIRST, FIRST + count * 7 * PAGE).random(turn);
                any(space.inspect(|mm| mm.map.find_gap(4 * PAGE, &search)));
            },
            one,
        ),
        (
            "mremap grows into a neighbour",
            CLOSE,
            |space, turn, count| {
                let at = FIRST + turn * 37 % count * PAGE;
                any(space.mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, &mut NoKernel));
            },
            one,
        ),
        (
            "munmap of a page, and mmap there",
            CLOSE,
            |space, turn, count| {
                let at = FIRST + turn * 37 % count * PAGE;
                any(space.munmap(at, PAGE, &mut NoKernel));
                any(space.mmap(args(at, 1, RW, MAP_FIXED), &mut NoKernel));
            },
            one,
        ),
        (
            "brk up and down",
            CLOSE,
            |space, turn, _| {
                let start = 0x1000_0000;
                if turn == 0 {
                    space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(start, 0));
                }
                space.brk(start + (turn % 2) * 16 * PAGE, &mut NoKernel);
            },
            one,
        ),
        (
            "the next VMA without the lock",
            GAPS,
            |space, turn, count| {
                let at = FIRST + turn * 37 % count * 7 * PAGE - 2 * PAGE;
                assert!(space.next_vma(at).is_some());
            },
            one,
        ),
        (
            "mprotect over everything",
            CLOSE,
            |space, _, count| {
                any(space.mprotect(FIRST, count * PAGE, PROT_READ, &mut NoKernel));
            },
            all,
        ),
        (
            "mprotect over everything, to what nothing had",
            CLOSE,
            |space, _, count| {
                any(space.mprotect(FIRST, count * PAGE, PROT_READ | PROT_EXEC, &mut NoKernel));
            },
            all,
        ),
        (
            "mlock of everything",
            CLOSE,
            |space, _, count| {
                any(space.mlock(FIRST, count * PAGE, &mut NoKernel));
            },
            all,
        ),
        (
            "munmap of everything",
            CLOSE,
            |space, _, count| {
                any(space.munmap(FIRST, count * PAGE, &mut NoKernel));
            },
            all,
        ),
        (
            "madvise over everything",
            CLOSE,
            |space, _, count| {
                any(space.madvise(FIRST, count * PAGE, 4, &mut NoKernel));
            },
            all,
        ),
    ]
};

/// Returns the most nodes that one of `turns` calls looks at.
fn worst(make: fn(u64) -> Space, run: Run, count: u64, turns: u64) -> usize {
    let space = make(count);
    (0..turns).map(|turn| visits::count(|| run(&space, turn, count)).0).max().unwrap_or(0)
}

#[test]
fn no_call_grows_faster_than_the_logarithm_and_what_it_touches() {
    const FEW: u64 = 125;
    // Four levels more.
    const MANY: u64 = 16 * FEW;
    let mut wrong = Vec::new();
    for (name, make, run, touches_all) in PATTERNS {
        let turns = if touches_all { 1 } else { 40 };
        let (few, many) = (worst(make, run, FEW, turns), worst(make, run, MANY, turns));
        std::println!("{name}: {few} nodes of {FEW} VMAs, {many} of {MANY}");
        let bound = if touches_all {
            // No more for each VMA than among few: each is found as the neighbour of the last one.
            few * 16 * 11 / 10
        } else {
            // A call searches a few times, and each time goes down and up four levels more, which
            // are eight in a tree that is not balanced.
            few * 2 + 128
        };
        if many > bound {
            wrong.push((name, few, many));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
