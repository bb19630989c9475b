//! Which memory is populated, charged, merged and aligned.

use kvma::Errno;
use kvma::linux::abi::*;
use kvma::linux::{Gate, Install, Mmap, PageOp, Policy, UNSERVED, VmFlags};
use kvma_test_support::{Inode, TestKernel};

use super::super::{ANON, AT, PAGE, RW};
use super::*;

const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;

#[test]
fn locked_private_memory_that_becomes_writable_is_populated() {
    let populated = |prot: u64, flags: u64, to: u64| {
        let mut program = Program::new();
        program.map(0, 4, prot, flags);
        program.kernel.page_ops.clear();
        program.mprotect(0, 4, to).unwrap();
        program.kernel.page_ops
    };
    let all = [(PageOp::Populate, AT, 4)];
    assert_eq!(populated(PROT_READ, ANON | MAP_LOCKED, RW), all);
    assert_eq!(populated(PROT_READ, ANON, RW), []);
    assert_eq!(populated(PROT_READ, SHARED | MAP_LOCKED, RW), []);
    assert_eq!(populated(RW, ANON | MAP_LOCKED, RW | PROT_EXEC), []);
    assert_eq!(populated(PROT_READ, ANON | MAP_LOCKED, RX), []);
}

#[test]
fn map_populate_populates_unless_it_is_not_to_block() {
    let populated = |flags: u64| {
        let mut program = Program::new();
        program.map(0, 4, RW, ANON | flags);
        program.kernel.page_ops
    };
    let all = [(PageOp::Populate, AT, 4)];
    assert_eq!(populated(MAP_POPULATE), all);
    assert_eq!(populated(MAP_POPULATE | MAP_NONBLOCK), []);
    assert_eq!(populated(MAP_NONBLOCK), []);
    assert_eq!(populated(0), []);
    assert_eq!(populated(MAP_LOCKED), all);
}

#[test]
fn memory_that_is_locked_twice_is_locked() {
    let mut program = Program::new();
    assert_eq!(program.call(|mm, update| mm.mlockall(2, update)), Ok(0));
    program.map(0, 1, RW, ANON | MAP_LOCKED);
    assert!(program.flags(0).contains(VmFlags::LOCKED));
}

/// Addresses of huge pages have to be aligned each by itself.
#[test]
fn huge_pages_do_not_move_by_less_than_one() {
    let mut program =
        Program { kernel: TestKernel::default().with_huge_pages(8), ..Program::new() };
    program.map(0, 2 * HUGE / PAGE, RW, ANON | MAP_HUGETLB);
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    let (page, to) = (HUGE / PAGE - 1, AT + 8 * HUGE - PAGE);
    assert_eq!(program.mremap(page, 1, 1, flags, to), Err(Errno::EINVAL));
    // Even a new address that does not count.
    assert_eq!(program.mremap(1, 1, 1, 0, AT + PAGE), Err(Errno::EINVAL));
}

/// They have an account of their own.
#[test]
fn huge_pages_that_become_writable_are_not_charged() {
    let mut program =
        Program { kernel: TestKernel::default().with_huge_pages(8), ..Program::new() };
    program.map(0, HUGE / PAGE, PROT_READ, ANON | MAP_HUGETLB);
    program.mprotect(0, HUGE / PAGE, RW).unwrap();
    assert_eq!((program.kernel.charged, program.mm.usage().committed()), (0, 0));
}

#[test]
fn populating_for_writes_touches_private_memory_and_no_other() {
    for (flags, merges) in [(ANON, false), (MAP_SHARED, true)] {
        let mut program = Program::new();
        for page in [0, 1] {
            let file = Some(Inode::new(1).open());
            // The two differ, so that they are touched apart.
            let prot = RW | if page == 0 { PROT_EXEC } else { 0 };
            let (addr, flags) = (AT + page * PAGE, flags | MAP_FIXED);
            let args = Mmap { addr, len: PAGE, prot, flags, offset: page * PAGE, file };
            program.call(|mm, update| mm.mmap(args, update)).unwrap();
        }
        let name = |page| if page == 0 { MADV_DONTFORK } else { MADV_DOFORK };
        for page in [0, 1] {
            program.madvise(page, 1, name(page)).unwrap();
            program.madvise(page, 1, POPULATE_WRITE).unwrap();
        }
        program.mprotect(0, 1, RW).unwrap();
        program.madvise(0, 1, MADV_DOFORK).unwrap();
        assert_eq!(program.ranges().len() == 1, merges, "{flags:#x}");
    }
}

/// Only what is large enough, aligned and touched has pages of which a huge one can be made.
#[test]
fn collapse_needs_memory_for_a_huge_page() {
    let collapse = |first: u64, pages: u64, flags: u64, offset: u64| {
        let mut program = Program::new();
        let (addr, len) = (AT + first * PAGE, pages * PAGE);
        let file = Some(Inode::new(1).open());
        let args = Mmap { addr, len, prot: RW, flags: flags | MAP_FIXED, offset, file };
        program.call(|mm, update| mm.mmap(args, update)).unwrap();
        if flags == ANON {
            program.write(first);
        }
        program.madvise(first, pages, COLLAPSE)
    };
    let huge = HUGE / PAGE;
    assert_eq!(collapse(0, huge, ANON, 0), Ok(0));
    assert_eq!(collapse(0, huge - 1, ANON, 0), Err(Errno::EINVAL));
    assert_eq!(collapse(1, huge, ANON, 0), Err(Errno::EINVAL));
    assert_eq!(collapse(1, 2 * huge - 1, ANON, 0), Ok(0));
    assert_eq!(collapse(0, huge, MAP_PRIVATE, 0), Ok(0));
    assert_eq!(collapse(0, huge, MAP_PRIVATE, HUGE), Ok(0));
    assert_eq!(collapse(0, huge, MAP_PRIVATE, PAGE), Err(Errno::EINVAL));
    assert_eq!(collapse(1, 2 * huge, MAP_PRIVATE, PAGE), Ok(0));
    // None at all, and not those that may not be huge.
    let mut program = Program::new();
    program.map(0, huge, RW, ANON);
    assert_eq!(program.madvise(0, huge, COLLAPSE), Err(Errno::EINVAL));
    program.write(0);
    program.madvise(0, huge, 15).unwrap();
    assert_eq!(program.madvise(0, huge, COLLAPSE), Err(Errno::EINVAL));
}

#[test]
fn code_is_counted_while_nothing_else_can_be_done_to_it() {
    let mut program = Program::new();
    program.map(0, 2, RX, ANON);
    program.map(2, 4, RW, ANON);
    program.map(6, 8, RW | PROT_EXEC, ANON);
    program.map(14, 16, PROT_READ, ANON);
    assert_eq!(program.mm.usage().exec(), 2 * PAGE);
    assert_eq!(program.mm.usage().data(), 12 * PAGE);
    assert_eq!(program.mm.usage().shared(), 0);
    program.map(0, 3, RW, SHARED);
    assert_eq!((program.mm.usage().exec(), program.mm.usage().shared()), (0, 3 * PAGE));
}

/// Only shared memory of a file is written back.
#[test]
fn msync_writes_shared_files_back() {
    let written = |flags: u64, how: u64| {
        let mut program = Program::new();
        let file = Some(Inode::new(1).open());
        let args =
            Mmap { addr: AT, len: PAGE, prot: RW, flags: flags | MAP_FIXED, offset: 0, file };
        program.call(|mm, update| mm.mmap(args, update)).unwrap();
        program.kernel.page_ops.clear();
        program.call(|mm, update| mm.msync(AT, PAGE, how, update)).unwrap();
        program.kernel.page_ops.len()
    };
    let (asynchronous, invalidate, synchronous) = (1, 2, 4);
    assert_eq!(written(MAP_SHARED, synchronous), 1);
    assert_eq!(written(MAP_SHARED, asynchronous), 0);
    assert_eq!(written(MAP_SHARED, invalidate), 0);
    assert_eq!(written(MAP_PRIVATE, synchronous), 0);
    assert_eq!(written(ANON, synchronous), 0);
}

#[test]
fn anonymous_huge_pages_know_the_flags_that_files_know() {
    let mut program =
        Program { kernel: TestKernel::default().with_huge_pages(8), ..Program::new() };
    let mut map = |flags: u64, offset: u64| {
        let flags = flags | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED;
        let args = Mmap { addr: AT, len: HUGE, prot: RW, flags, offset, file: None };
        program.call(|mm, update| mm.mmap(args, update))
    };
    assert_eq!(map(MAP_SHARED_VALIDATE, 0), Ok(AT));
    assert_eq!(map(MAP_SHARED_VALIDATE | MAP_SYNC, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(map(MAP_SHARED | MAP_SYNC, 0), Ok(AT));
    for how in [MAP_PRIVATE, MAP_SHARED, MAP_SHARED_VALIDATE] {
        assert_eq!(map(how | MAP_GROWSDOWN, 0), Err(Errno::EINVAL));
    }
    // The last byte has a number that fits.
    let most = (1 << 63) - 2 * HUGE;
    assert_eq!(map(MAP_PRIVATE, most), Ok(AT));
    assert_eq!(map(MAP_PRIVATE, most + HUGE), Err(Errno::EOVERFLOW));
}

#[test]
fn installed_vmas_are_whole_pages() {
    let mut program = Program::new();
    let mut install = |start, end, offset| {
        let vma = Install { start, end, flags: VmFlags::READ, offset, handle: None };
        program.call(|mm, update| mm.install(vma, update).map(|()| 0))
    };
    for (start, end, offset) in [(1, 1, 0), (0, 5, 0), (0, PAGE, 5), (PAGE, 0, 0)] {
        assert_eq!(install(AT + start, AT + end, offset), Err(Errno::EINVAL));
    }
    assert_eq!(install(AT, AT + PAGE, PAGE), Ok(0));
}

/// The heap is what lies between the two ends of `brk`, and touches them.
#[test]
fn what_begins_where_the_heap_ends_is_no_heap() {
    let mut program = Program::new();
    program.mm.set_start_brk(AT, 0);
    assert_eq!(program.call(|mm, update| Ok(mm.brk(AT + 4 * PAGE, update))), Ok(AT + 4 * PAGE));
    program.map(4, 2, PROT_READ, ANON);
    let lines: Vec<_> = program.mm.maps().map(|line| line.to_string()).collect();
    assert!(lines[0].ends_with("[heap]") && !lines[1].contains("heap"), "{lines:?}");
}

#[test]
fn a_move_that_shrinks_or_leaves_its_source_is_charged_for_what_is_there() {
    let fixed = MREMAP_MAYMOVE | MREMAP_FIXED;
    for (new, flags) in [(2, fixed), (4, fixed), (6, fixed), (4, fixed | MREMAP_DONTUNMAP)] {
        let mut program = Program::new();
        program.map(0, 4, RW, ANON);
        program.mremap(0, 4, new, flags, AT + 100 * PAGE).unwrap();
        assert_eq!(program.kernel.charged, program.mm.usage().committed(), "{new}, {flags:#x}");
    }
}

#[test]
fn locked_memory_that_moves_and_grows_brings_in_what_is_new() {
    let mut program = Program::new();
    program.map(0, 4, RW, ANON | MAP_LOCKED);
    program.kernel.page_ops.clear();
    let flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert_eq!(program.mremap(0, 4, 7, flags, AT + 100 * PAGE), Ok(AT + 100 * PAGE));
    assert_eq!(program.kernel.page_ops, [(PageOp::Populate, AT + 104 * PAGE, 3)]);
    // The same in place, and nothing for memory that is not locked.
    program.kernel.page_ops.clear();
    assert_eq!(program.mremap(100, 7, 9, 0, 0), Ok(AT + 100 * PAGE));
    assert_eq!(program.kernel.page_ops, [(PageOp::Populate, AT + 107 * PAGE, 2)]);
    program.map(0, 4, RW, ANON);
    program.kernel.page_ops.clear();
    program.mremap(0, 4, 7, flags, AT + 200 * PAGE).unwrap();
    assert_eq!(program.kernel.page_ops, []);
}

/// Two parts of a file that go on from one to the other share what was written to them.
#[test]
fn parts_of_a_file_that_differ_in_access_alone_are_touched_together() {
    for (offset, count) in [(1, 1), (2, 2)] {
        let mut program = Program::new();
        for (page, prot, offset) in [(0, RW | PROT_EXEC, 0), (1, RW, offset)] {
            let file = Some(Inode::new(1).open());
            let (addr, flags) = (AT + page * PAGE, MAP_PRIVATE | MAP_FIXED);
            let args = Mmap { addr, len: PAGE, prot, flags, offset: offset * PAGE, file };
            program.call(|mm, update| mm.mmap(args, update)).unwrap();
            program.write(page);
        }
        program.mprotect(0, 1, RW).unwrap();
        assert_eq!(program.ranges().len(), count);
    }
}

/// The one that they become is known for both.
#[test]
fn vmas_that_merge_keep_what_was_known_of_each() {
    for touched in [0, 1] {
        let mut program = Program::new();
        program.map(0, 512, RW | if touched == 0 { PROT_EXEC } else { 0 }, ANON);
        program.map(512, 512, RW | if touched == 1 { PROT_EXEC } else { 0 }, ANON);
        program.write(512 * touched);
        program.madvise(512 * touched, 1, 102).unwrap();
        program.mprotect(512 * touched, 512, RW).unwrap();
        assert_eq!(program.ranges(), [(0, 1024)]);
        // Touched, and with a guard somewhere.
        assert_eq!(program.madvise(0, 512, COLLAPSE), Ok(0));
        assert!(program.flags(0).to_string().contains("gu"));
    }
}

#[test]
fn the_gate_is_readable_if_it_is_to_be() {
    let mut program = Program::new();
    for (gate, perms) in [(Gate::Execute, "--xp"), (Gate::ReadExecute, "r-xp")] {
        program.mm.set_gate(gate);
        let line = program.mm.maps().last().unwrap().to_string();
        assert!(line.contains(perms) && line.contains("[vsyscall]"), "{line}");
    }
}

/// The pages of the kernel's own guard, on both sides.
#[test]
fn a_hint_is_taken_if_the_kernels_guards_fit_around_it() {
    let mut program = Program::new();
    program.mm.set_policy(Policy::new().with_guard(4 * PAGE)).unwrap();
    let mut map = |addr, flags| program.mmap(addr, 2 * PAGE, RW, ANON | flags).unwrap();
    assert_eq!(map(AT, 0), AT);
    assert_eq!(map(AT + 6 * PAGE, 0), AT + 6 * PAGE, "four pages between");
    // There is room for it and the guard above, and not for the one below.
    let other = map(AT + 11 * PAGE, 0);
    assert!(!(AT..AT + 100 * PAGE).contains(&other), "{other:#x}");
    assert_eq!(map(0x5000_0000, MAP_32BIT), 0x5000_0000);
    assert_eq!(map(0x5000_0000 + 6 * PAGE, MAP_32BIT), 0x5000_0000 + 6 * PAGE);
}

#[test]
fn calls_that_are_not_served_have_a_reason() {
    for call in UNSERVED {
        assert!(
            call.why().len() > 8 && call.why().contains(' '),
            "{}: {}",
            call.name(),
            call.why()
        );
    }
}

#[test]
fn mlock2_without_flags_is_mlock() {
    let mut program = Program::new();
    program.map(0, 2, RW, ANON);
    let mut mlock2 = |flags| program.call(|mm, update| mm.mlock2(AT, PAGE, flags, update));
    assert_eq!(mlock2(2), Err(Errno::EINVAL));
    assert_eq!(mlock2(0), Ok(0));
    assert!(program.flags(0).contains(VmFlags::LOCKED));
}
