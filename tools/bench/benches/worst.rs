//! The slowest calls that a program can bring about, in address spaces made for it:
//! `cargo bench -p kvma-bench --bench worst`, a few minutes.
//!
//! Prints for each pattern and number of VMAs the median and the worst time of a call, and the
//! longest hold of the lock; for calls that touch all VMAs, by VMA. What the thread's CPU time does
//! not leave out of them, an interrupt for one, is in the worst ones. That nothing grows faster
//! than the logarithm and the VMAs touched is a matter of nodes looked at, which the test
//! `linux::calls::growth` counts.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;

use kvma::addr_space::HasVmMap;
use kvma::linux::abi::{
    MAP_32BIT, MAP_ANONYMOUS, MAP_FIXED, MAP_GROWSDOWN, MAP_PRIVATE, MREMAP_MAYMOVE, PROT_EXEC,
    PROT_READ, PROT_WRITE,
};
use kvma::linux::{Layout, LinuxVma, Mm, Mmap, NoFile, NoKernel};
use kvma::{AddrSpace, BoxAlloc, Search, VmaNode};
use kvma_bench::options::Options;
use kvma_bench::timed_lock::Timed;
use kvma_bench::timing::{cpu_time, machine, median};

const PAGE: u64 = 0x1000;
const FIRST: u64 = 0x1_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;

type Linux = Mm<NoFile, Arc<BoxAlloc<VmaNode<LinuxVma<NoFile>>>>>;
type Space<'a> = AddrSpace<Linux, &'a Timed>;

fn args(addr: u64, pages: u64, prot: u64, flags: u64) -> Mmap<NoFile> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | flags;
    Mmap { addr, len: pages * PAGE, prot, flags, offset: 0, file: None }
}

/// `count` VMAs of `pages` pages, `apart` pages from start to start.
struct Row {
    first: u64,
    pages: u64,
    apart: u64,
    flags: u64,
}

impl Row {
    const fn new(pages: u64, apart: u64) -> Self {
        Self { first: FIRST, pages, apart, flags: 0 }
    }

    fn map(&self, count: u64) -> Linux {
        let mut mm = Linux::new(Layout::x86_64(8 << 20), Arc::default()).unwrap();
        mm.set_max_map_count(usize::MAX);
        for half in [0, 1] {
            for n in (half..count).step_by(2) {
                // No two that meet are alike.
                let prot = if n % 2 == 0 { RW } else { PROT_READ };
                let at = self.first + n * self.apart * PAGE;
                let args = args(at, self.pages, prot, MAP_FIXED | self.flags);
                mm.mmap(args, &mut mm.update(&mut NoKernel)).unwrap();
            }
        }
        mm
    }
}

/// A call, with the number of its turn and that of all VMAs. Some are refused.
type Run = fn(&Space<'_>, u64, u64);

struct Pattern {
    name: &'static str,
    row: Row,
    run: Run,
    touches_all: bool,
}

const fn one(name: &'static str, row: Row, run: Run) -> Pattern {
    Pattern { name, row, run, touches_all: false }
}

const fn all(name: &'static str, row: Row, run: Run) -> Pattern {
    Pattern { name, row, run, touches_all: true }
}

const PATTERNS: [Pattern; 14] = [
    one("stacks within their guard gaps: mmap", STACKS, |space, _, _| {
        let _ = space.mmap(args(0, 5, RW, 0), &mut NoKernel);
    }),
    one("stacks: another stack", STACKS, |space, _, _| {
        let _ = space.mmap(args(0, 1, RW, MAP_GROWSDOWN), &mut NoKernel);
    }),
    one("a full low window: MAP_32BIT", LOW, |space, _, _| {
        let _ = space.mmap(args(0, 0x4_0000, RW, MAP_32BIT), &mut NoKernel);
    }),
    one("gaps of one size less a page: mmap", GAPS, |space, _, _| {
        let _ = space.mmap(args(0, 5, RW, 0), &mut NoKernel);
    }),
    one("aligned, in misaligned gaps", GAPS, |space, _, _| {
        let search = Search::new().window(FIRST, u64::MAX).align(2 << 20);
        let _ = space.inspect(|mm| mm.vm_map().find_gap(4 * PAGE, &search));
    }),
    one("aligned, where each gap is too short", SHORT, |space, _, _| {
        let search = Search::new().window(FIRST, u64::MAX).align(2 << 20);
        let _ = space.inspect(|mm| mm.vm_map().find_gap(511 * PAGE, &search));
    }),
    one("a random place", GAPS, |space, turn, count| {
        let search = Search::new().window(FIRST, FIRST + count * 7 * PAGE).random(turn);
        let _ = space.inspect(|mm| mm.vm_map().find_gap(4 * PAGE, &search));
    }),
    one("mremap grows into a neighbour", CLOSE, |space, turn, count| {
        let at = FIRST + turn * 7_919 % count * PAGE;
        let _ = space.mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, &mut NoKernel);
    }),
    one("munmap of a page, and mmap there", CLOSE, |space, turn, count| {
        let at = FIRST + turn * 7_919 % count * PAGE;
        let _ = space.munmap(at, PAGE, &mut NoKernel);
        let _ = space.mmap(args(at, 1, RW, MAP_FIXED), &mut NoKernel);
    }),
    one("brk up and down", CLOSE, |space, turn, _| {
        if turn == 0 {
            space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(0x1000_0000, 0));
        }
        space.brk(0x1000_0000 + turn % 2 * 16 * PAGE, &mut NoKernel);
    }),
    one("the next VMA without the lock", GAPS, |space, turn, count| {
        assert!(space.next_vma(FIRST + turn * 7_919 % count * 7 * PAGE).is_some());
    }),
    all("mprotect over everything", CLOSE, |space, turn, count| {
        let prot = PROT_READ | if turn % 2 == 0 { PROT_EXEC } else { 0 };
        let _ = space.mprotect(FIRST, count * PAGE, prot, &mut NoKernel);
    }),
    all("madvise over everything", CLOSE, |space, _, count| {
        let _ = space.madvise(FIRST, count * PAGE, 4, &mut NoKernel);
    }),
    all("munmap of everything", CLOSE, |space, _, count| {
        let _ = space.munmap(FIRST, count * PAGE, &mut NoKernel);
    }),
];

const STACKS: Row = Row { flags: MAP_GROWSDOWN, ..Row::new(1, 20) };
const LOW: Row = Row { first: 0x4000_0000, ..Row::new(1, 2) };
const GAPS: Row = Row::new(3, 7);
const SHORT: Row = Row::new(1, 512);
const CLOSE: Row = Row::new(1, 1);

fn main() {
    let options = Options::parse(&[]);
    println!("{}", machine());
    println!("{:<40}{:>9}{:>12}{:>12}{:>14}", "", "VMAs", "median ns", "worst ns", "longest hold");
    for pattern in PATTERNS.iter().filter(|pattern| options.wants(pattern.name)) {
        for vmas in options.sizes(&[1_000, 10_000, 100_000, 1_000_000]) {
            let lock = Timed::new();
            let space = AddrSpace::with_lock(pattern.row.map(vmas), &lock);
            let turns = if pattern.touches_all { 1 } else { 2_000 };
            let mut times: Vec<f64> = (0..turns)
                .map(|turn| {
                    let before = cpu_time();
                    (pattern.run)(&space, turn, vmas);
                    (cpu_time() - before).as_nanos() as f64
                })
                .collect();
            let each = if pattern.touches_all { vmas as f64 } else { 1.0 };
            let middle = median(&mut times) / each;
            let worst = times.last().copied().unwrap_or(0.0) / each;
            let (name, hold) = (pattern.name, lock.longest());
            println!("{name:<40}{vmas:>9}{middle:>12.0}{worst:>12.0}{hold:>11} ns");
        }
    }
}
