//! The layout: where Linux places mappings, how far stacks grow, and what limits mean.

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Fault, FaultAction, Layout, Mm, Mmap, NoKernel, Resource, SegvCode, VmFlags,
};
use kvma::{Direction, Errno, Heap};
use kvma_test_support::Inode;

use super::PAGE;

/// The bases are those of a running kernel without randomisation: the end of what it mapped first.
#[test]
fn the_stack_limit_says_where_the_search_begins() {
    let kernel = [
        (0, 0x7fff_f7ff_f000),
        (8 << 20, 0x7fff_f7ff_f000),
        (127 << 20, 0x7fff_f7ff_f000),
        (2_000_000_000, 0x7fff_88ba_6000),
        (1 << 62, 0x1555_5555_6000),
        (u64::MAX - 1, 0x1555_5555_6000),
    ];
    for (limit, base) in kernel {
        assert_eq!(Layout::x86_64(limit).base(), base, "{limit:#x}");
    }
}

#[test]
fn an_unlimited_stack_leaves_the_search_top_down() {
    let layout = Layout::x86_64(u64::MAX);
    assert_eq!((layout.direction(), layout.base()), (Direction::TopDown, 0x1555_5555_6000));
}

/// `TASK_UNMAPPED_BASE`
#[test]
fn the_search_from_the_bottom_begins_at_a_third() {
    assert_eq!(Layout::x86_64(8 << 20).bottom(), 0x2aaa_aaaa_b000);
}

/// Found by the list of plain arithmetic: the sum wrapped, and panicked with overflow checks.
#[test]
fn a_bottom_near_2_to_the_64_moves_no_further() {
    let layout = Layout::x86_64(8 << 20).with_bottom(u64::MAX - 0xfff);
    let moved = layout.randomised(u64::MAX, 32);
    assert_eq!(moved.bottom(), u64::MAX);
    assert!(Mm::<Inode, Heap>::new(moved, Heap).is_err(), "no search begins there");
}

/// Found by `live_faults`: the number of a stack's first page (`vm_pgoff`) moves with it, and does
/// not fall below zero.
#[test]
fn a_stack_that_was_moved_grows_no_further_than_it_could_have() {
    let mut mm: Mm<Inode, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let (low, high) = (0x20 * PAGE, 0x1000_0000_0000);
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
    for (addr, written) in [(high, true), (high + 0x1000 * PAGE, false)] {
        let args = Mmap {
            addr: low,
            len: PAGE,
            prot: PROT_READ | PROT_WRITE,
            flags,
            offset: 0,
            file: None,
        };
        let mut kernel = NoKernel;
        let call = &mut mm.update(&mut kernel);
        mm.mmap(args, call).unwrap();
        if written {
            assert_eq!(mm.fault(&Fault::new(low, Access::Write), call), FaultAction::Copy);
        }
        mm.mremap(low, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, addr, call).unwrap();
        let mut write = |addr| mm.fault(&Fault::new(addr, Access::Write), call);
        assert_eq!(write(addr - 0x20 * PAGE), FaultAction::Copy);
        let further =
            if written { FaultAction::Refuse(SegvCode::MapErr) } else { FaultAction::Copy };
        assert_eq!(write(addr - 0x21 * PAGE), further);
        mm.check().unwrap();
    }
}

/// The stacks are those of a running kernel, for a new program whose arguments fit into a page.
#[test]
fn a_new_stack_is_as_large_as_the_limit_allows() {
    let top = 0x7fff_ffff_f000;
    let kernel = [
        (0, 0x1000),
        (4096, 0x1000),
        (0x1_0001, 0x1_0000),
        (131 << 10, 0x2_0000),
        (132 << 10, 0x2_1000),
        (8 << 20, 0x2_1000),
        (u64::MAX, 0x2_1000),
    ];
    for (limit, len) in kernel {
        assert_eq!(Layout::x86_64(limit).stack(100, limit), (top - len, top), "{limit:#x}");
    }
}

/// Found by `live_kernel`: Linux prepares a stack for pages of its own before it looks at the
/// limits. Memory that may have such pages keeps its charge (`ac`) when it can no longer be
/// written.
#[test]
fn a_stack_that_may_not_grow_counts_as_used() {
    let at = 0x1000_0000_0000;
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
    let kept = |below: Option<u64>, limit| {
        let mut mm: Mm<Inode, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        mm.set_limits(mm.limits().with(Resource::Stack, limit));
        let mut kernel = NoKernel;
        let call = &mut mm.update(&mut kernel);
        let args =
            |addr, flags| Mmap { addr, len: PAGE, prot: PROT_READ, flags, offset: 0, file: None };
        if let Some(below) = below {
            mm.mmap(args(below, flags & !MAP_GROWSDOWN), call).unwrap();
        }
        mm.mmap(Mmap { prot: PROT_READ | PROT_WRITE, ..args(at, flags) }, call).unwrap();
        let refused = mm.fault(&Fault::new(at - PAGE, Access::Read), call);
        assert_eq!(refused, FaultAction::Refuse(SegvCode::MapErr));
        mm.mprotect(at, PAGE, PROT_READ, call).unwrap();
        mm.iter().last().is_some_and(|vma| VmFlags::of(&vma).contains(VmFlags::ACCOUNT))
    };
    assert!(kept(None, PAGE));
    // A neighbour that is too near refuses it before that.
    assert!(!kept(Some(at - 2 * PAGE), 8 << 20));
}

#[test]
fn a_data_limit_of_zero_is_the_hard_limit_for_all_but_the_heap() {
    let mut mm: Mm<Inode, Heap> = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
    let mut kernel = NoKernel;
    let call = &mut mm.update(&mut kernel);
    mm.set_start_brk(0x40_0000, 0);
    mm.set_limits(mm.limits().with(Resource::Data, 0).with(Resource::DataMax, 8 * PAGE));
    let mut map = |prot, pages: u64| {
        let flags = MAP_PRIVATE | MAP_ANONYMOUS;
        mm.mmap(Mmap { addr: 0, len: pages * PAGE, prot, flags, offset: 0, file: None }, call)
    };
    assert_eq!(map(PROT_WRITE, 9), Err(Errno::ENOMEM));
    map(PROT_WRITE, 5).unwrap();
    let readable = map(PROT_READ, 4).unwrap();
    assert_eq!(mm.mprotect(readable, 4 * PAGE, PROT_WRITE, call), Err(Errno::ENOMEM));
    assert_eq!(mm.mprotect(readable, 3 * PAGE, PROT_WRITE, call), Ok(0));
    assert_eq!(mm.brk(0x40_0001, call), 0x40_0000);
}
