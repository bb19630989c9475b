//! The number of nodes that the calls' searches visit with hints, beside the same calls without:
//! unlike time, it is the same each time.

extern crate std;

use std::sync::Arc;
use std::vec::Vec;

use crate::addr_space::HintTable;
use crate::linux::abi::{MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE};
use crate::linux::{
    Access, Fault, FaultAction, Layout, LinuxVma, Mm, Mmap, NoFile, NoKernel, Target,
};
use crate::tree::visits;
use crate::{AddrSpace, Attrs, BoxAlloc, VmaNode};

const PAGE: u64 = 0x1000;
/// Bytes from the start of a VMA to that of the next.
const APART: u64 = 6 * PAGE;
const FIRST: u64 = 0x1000_0000;

type Nodes = Arc<BoxAlloc<VmaNode<LinuxVma<NoFile>>>>;
type Space = AddrSpace<Mm<NoFile, Nodes>>;

fn map(space: &Space, addr: u64) -> u64 {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    let prot = PROT_READ | PROT_WRITE;
    let args = Mmap { addr, len: 4 * PAGE, prot, flags, offset: 0, file: None };
    space.mmap(args, &mut NoKernel).unwrap()
}

/// Maps 3,000 VMAs, neither upwards nor downwards, as a program does.
fn new_space() -> Space {
    let mm = Mm::new(Layout::x86_64(8 << 20), Arc::new(BoxAlloc::new())).unwrap();
    let space = Space::new(mm);
    for half in [0, 1] {
        for index in (half..3_000).step_by(2) {
            map(&space, FIRST + index * APART);
        }
    }
    space
}

fn vmas(space: &Space) -> Vec<(u64, u64, Attrs)> {
    let of = |vma: crate::Vma<'_, _>| (vma.start(), vma.range().last(), vma.attrs());
    space.inspect(|mm| mm.map.iter().map(of).collect())
}

type Run = fn(&Space, u64) -> u64;

#[test]
fn calls_begin_at_hints() {
    let (bare, hinted) = (new_space(), new_space());
    hinted.set_hints(HintTable::boxed(4_096).unwrap()).unwrap();
    for (start, ..) in vmas(&hinted) {
        assert!(hinted.lookup(start).is_some());
    }
    let calls: [(&str, Run); 10] = [
        ("fault", |space, at| {
            let write = Fault::new(at, Access::Write);
            assert_eq!(space.fault(&write, &mut NoKernel), FaultAction::Copy);
            0
        }),
        ("process_madvise", |space, at| {
            let ranges = [(at, 4 * PAGE)];
            space.process_madvise(Target::Own, ranges, 4, 0, &mut NoKernel).unwrap()
        }),
        ("mprotect", |space, at| space.mprotect(at, 4 * PAGE, PROT_READ, &mut NoKernel).unwrap()),
        ("madvise", |space, at| space.madvise(at, 4 * PAGE, 4, &mut NoKernel).unwrap()),
        ("mlock", |space, at| space.mlock(at, 4 * PAGE, &mut NoKernel).unwrap()),
        ("munlock", |space, at| space.munlock(at, 4 * PAGE, &mut NoKernel).unwrap()),
        ("mremap", |space, at| space.mremap(at, 4 * PAGE, 2 * PAGE, 0, 0, &mut NoKernel).unwrap()),
        ("msync", |space, at| space.msync(at, 2 * PAGE, 4, &mut NoKernel).unwrap()),
        ("munmap", |space, at| space.munmap(at, 4 * PAGE, &mut NoKernel).unwrap()),
        ("mmap", map),
    ];
    for (name, call) in calls {
        // Each somewhere else, since what was found last is found again.
        let visits_of = |space| {
            let each = (0..3_000).step_by(20).map(|index| call(space, FIRST + index * APART));
            let (visits, answers) = visits::count(|| each.collect::<Vec<_>>());
            (visits / answers.len(), answers)
        };
        let ((without, expected), (with, answers)) = (visits_of(&bare), visits_of(&hinted));
        assert_eq!(answers, expected, "{name}");
        // Some search for the end of the range as well, or another time. A search from the root
        // ends at the VMA, which lies a step or two above the leaves.
        assert!(with + 8 <= without, "{name}: {with} visits, {without} without hints");
    }
    assert_eq!(vmas(&hinted), vmas(&bare));
    hinted.inspect(|mm| mm.map.check()).unwrap();
}
