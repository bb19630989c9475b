//! The last address, the largest number, and one more.

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Alignment, Capabilities, Fault, FaultAction, Install, Layout, Mm, Mmap, Policy,
    Resource, Restrictions, Role, Rules, SegvCode, Target, WriteExec,
};
use kvma::{AddrSpace, Direction, Errno, Error, Heap};
use kvma_test_support::{Inode, TestKernel};

use super::super::{ANON, AT, PAGE, RW};
use super::*;

/// `access_error` of Linux 4: the stack pointer and the 32 words that `enter` pushes, and 64 KiB.
#[test]
fn a_stack_is_reached_from_64_kib_and_32_words_above() {
    let mut program = Program::new();
    program.map(0x1000, 1, RW, ANON | MAP_GROWSDOWN);
    let reach = 65536 + 32 * 8;
    let addr = AT + 0xff0 * PAGE;
    let mut grows = |sp| {
        let fault = Fault::new(addr, Access::Write).with_stack_pointer(sp);
        program.mm.fault(&fault, &mut program.mm.update(&mut program.kernel))
    };
    assert_eq!(grows(addr + reach + 1), FaultAction::Refuse(SegvCode::MapErr));
    assert_eq!(grows(addr + reach), FaultAction::Copy);
}

/// A part that merges with its neighbour is not split off first.
#[test]
fn a_full_program_may_protect_what_merges() {
    // The head, with what lies below; the tail, with what lies above.
    for (page, pages, expected) in [(4, 2, [(0, 6), (6, 2)]), (2, 2, [(0, 2), (2, 6)])] {
        let mut program = Program::new();
        let (low, high) = if page == 4 { (RW, PROT_READ) } else { (PROT_READ, RW) };
        program.map(0, 4, low, ANON);
        program.map(4, 4, high, ANON);
        let mut program = program.full();
        // Neither may be split otherwise.
        for (page, pages) in [(5, 1), (1, 1)] {
            for prot in [0, RX] {
                assert_eq!(program.mprotect(page, pages, prot), Err(Errno::ENOMEM));
            }
        }
        // Nor the end that lies away from the neighbour.
        let away = if page == 4 { 6 } else { 0 };
        assert_eq!(program.mprotect(away, 2, RW), Err(Errno::ENOMEM));
        assert_eq!(program.ranges(), [(0, 4), (4, 4)]);
        assert_eq!(program.mprotect(page, pages, RW), Ok(0));
        assert_eq!(program.ranges(), expected);
    }
}

/// VMAs behind a gap, and those that differ in something else, are no neighbours to merge with.
#[test]
fn a_full_program_may_not_protect_what_does_not_merge() {
    let mut program = Program::new();
    program.map(0, 4, RW, ANON);
    program.map(5, 4, PROT_READ, ANON);
    program.map(10, 4, RW, ANON);
    let mut program = program.full();
    assert_eq!(program.mprotect(5, 2, RW), Err(Errno::ENOMEM));
    assert_eq!(program.mprotect(7, 2, RW), Err(Errno::ENOMEM));
    assert_eq!(program.ranges(), [(0, 4), (5, 4), (10, 4)]);
    // Shared memory beside private memory.
    let mut program = Program::new();
    program.map(0, 4, RW, SHARED);
    program.map(4, 4, PROT_READ, ANON);
    program.map(8, 4, RW, SHARED);
    let mut program = program.full();
    assert_eq!(program.mprotect(4, 2, RW), Err(Errno::ENOMEM));
    assert_eq!(program.mprotect(6, 2, RW), Err(Errno::ENOMEM));
    assert_eq!(program.ranges(), [(0, 4), (4, 4), (8, 4)]);
}

#[test]
fn a_full_program_may_unmap_ends_and_map_one_more() {
    let mut program = Program::new();
    program.map(0, 8, RW, ANON);
    program.map(10, 1, PROT_READ, ANON);
    let mut program = program.full();
    let mut munmap = |page: u64, pages: u64| {
        program.call(|mm, update| mm.munmap(AT + page * PAGE, pages * PAGE, update))
    };
    assert_eq!(munmap(3, 1), Err(Errno::ENOMEM));
    assert_eq!(munmap(0, 1), Ok(0));
    assert_eq!(munmap(7, 1), Ok(0));
    assert_eq!(program.ranges(), [(1, 6), (10, 1)]);
    // One beyond the limit, and no more.
    program.map(20, 1, PROT_READ, ANON);
    assert_eq!(program.mmap(AT + 30 * PAGE, PAGE, RW, ANON | MAP_FIXED), Err(Errno::ENOMEM));
}

#[test]
fn a_new_address_ends_with_user_space() {
    for how in [MREMAP_FIXED, MREMAP_DONTUNMAP] {
        let to = |addr| {
            let mut program = Program::new();
            program.map(0, 4, RW, ANON);
            program.mremap(0, 4, 4, MREMAP_MAYMOVE | how, addr)
        };
        assert_eq!(to(TOP - 4 * PAGE), Ok(TOP - 4 * PAGE));
        for addr in [TOP - 3 * PAGE, TOP, TOP + PAGE, 1 << 62] {
            assert_eq!(to(addr), Err(Errno::EINVAL), "{addr:#x}");
        }
    }
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    let pages = TOP / PAGE;
    assert_eq!(program.mremap(0, 1, pages + 1, MREMAP_MAYMOVE, 0), Err(Errno::EINVAL));
    assert_eq!(program.mremap(0, 1, pages, MREMAP_MAYMOVE, 0), Err(Errno::ENOMEM));
}

#[test]
fn what_is_mapped_at_the_top_is_in_core() {
    let mut program = Program::new();
    program.mmap(TOP - 2 * PAGE, 2 * PAGE, RW, ANON | MAP_FIXED).unwrap();
    let mut mincore = |addr, len| program.call(|mm, update| mm.mincore(addr, len, update));
    assert_eq!(mincore(TOP - 2 * PAGE, 2 * PAGE), Ok(0));
    assert_eq!(mincore(TOP - 2 * PAGE, 2 * PAGE + 1), Err(Errno::ENOMEM));
    assert_eq!(mincore(TOP - 2 * PAGE, 4 * PAGE), Err(Errno::ENOMEM));
}

#[test]
fn memory_may_be_locked_up_to_the_limit() {
    let mut program = Program::new();
    program.map(0, 8, RW, ANON);
    program.mm.set_limits(program.mm.limits().with(Resource::MemLock, 4 * PAGE));
    let mut mlock = |page: u64, pages: u64| {
        program.call(|mm, update| mm.mlock(AT + page * PAGE, pages * PAGE, update))
    };
    assert_eq!(mlock(0, 5), Err(Errno::ENOMEM));
    assert_eq!(mlock(0, 3), Ok(0));
    assert_eq!(mlock(3, 2), Err(Errno::ENOMEM));
    // What is locked already does not count twice.
    assert_eq!(mlock(1, 3), Ok(0));
    assert_eq!(mlock(0, 4), Ok(0));
}

#[test]
fn populating_stops_at_gaps() {
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    program.map(2, 1, RW, ANON);
    program.kernel.page_ops.clear();
    for advice in [POPULATE_WRITE - 1, POPULATE_WRITE] {
        assert_eq!(program.madvise(0, 3, advice), Err(Errno::ENOMEM));
    }
    let pages: Vec<_> = program.kernel.page_ops.iter().map(|op| op.1).collect();
    assert_eq!(pages, [AT, AT], "nothing behind the gap");
}

/// Linux has keys 0 to 15.
#[test]
fn there_is_no_key_16() {
    let mut mm =
        Mm::<Inode, _>::new(Layout::x86_64(8 << 20).with_protection_keys(16), Heap).unwrap();
    let mut kernel = TestKernel::default();
    let args = Mmap { addr: AT, len: PAGE, prot: RW, flags: ANON, offset: 0, file: None };
    mm.mmap(args, &mut mm.update(&mut kernel)).unwrap();
    for key in [15, 16, 17] {
        let tagged = mm.pkey_mprotect(AT, PAGE, RW, key, &mut mm.update(&mut kernel));
        assert_eq!(tagged, Err(Errno::EINVAL), "{key}");
    }
}

#[test]
fn what_a_layout_is_told_it_says() {
    let layout = Layout::x86_64(8 << 20);
    let huge = layout.with_huge_pages(1 << 30);
    assert_eq!((layout.huge(), huge.huge()), (HUGE, 1 << 30));
    assert_eq!(layout.with_user_min_addr(0x9000).user_min_addr(), 0x9000);
    assert_eq!(layout.with_min_addr(0x9000).min_addr(), 0x9000);
    assert_eq!(layout.with_guard_gap(0x9000).guard_gap(), 0x9000);
    assert_eq!(layout.with_base(0x9000).base(), 0x9000);
    assert_eq!(layout.with_bottom(0x9000).bottom(), 0x9000);
    assert_eq!(layout.with_protection_keys(3).protection_keys(), 3);
    assert_eq!(layout.with_direction(Direction::BottomUp).direction(), Direction::BottomUp);
    let randomised = layout.randomised(0xffff_ffff, 4);
    assert_eq!(randomised.base(), layout.base() - 15 * PAGE);
    assert_eq!(randomised.bottom(), layout.bottom() + 15 * PAGE);
    let most = layout.randomised(u64::MAX, 60).bottom();
    assert_eq!(most, layout.bottom() + u64::from(u32::MAX) * PAGE);
    let policy = Policy::new().with_write_exec(WriteExec::Mdwe).with_guard(3 * PAGE);
    assert_eq!((policy.write_exec(), policy.guard()), (WriteExec::Mdwe, 3 * PAGE));
    assert_eq!(Rules::V6_18.version(), (6, 18));
}

#[test]
fn a_stack_grows_to_the_last_page_of_its_limit() {
    let mut program = Program::new();
    program.mm.set_limits(program.mm.limits().with(Resource::Stack, 16 * PAGE));
    program.map(0x1000, 1, RW, ANON | MAP_GROWSDOWN);
    let mut grow = |pages: u64| {
        let fault = Fault::new(AT + (0x1001 - pages) * PAGE, Access::Write);
        program.mm.fault(&fault, &mut program.mm.update(&mut program.kernel))
    };
    assert_eq!(grow(17), FaultAction::Refuse(SegvCode::MapErr));
    assert_eq!(grow(16), FaultAction::Copy);
}

#[test]
fn the_heap_grows_to_the_last_byte_of_its_limit() {
    let mut program = Program::new();
    program.mm.set_limits(program.mm.limits().with(Resource::Data, 16 * PAGE));
    program.mm.set_start_brk(AT, 4 * PAGE);
    let mut brk = |bytes| program.mm.brk(AT + bytes, &mut program.mm.update(&mut program.kernel));
    assert_eq!(brk(12 * PAGE + 1), AT);
    assert_eq!(brk(12 * PAGE), AT + 12 * PAGE);
}

#[test]
fn a_vector_may_have_1024_ranges() {
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    let mut advise = |count| {
        let ranges = vec![(AT, PAGE); count];
        program.call(|mm, update| mm.process_madvise(Target::Own, ranges, 4, 0, update))
    };
    assert_eq!(advise(1025), Err(Errno::EINVAL));
    assert_eq!(advise(1024), Ok(1024 * PAGE));
    let mut advise = |len| {
        let ranges = [(AT, len)];
        program.call(|mm, update| mm.process_madvise(Target::Own, ranges, 4, 0, update))
    };
    assert_eq!(advise(i64::MAX as u64), Err(Errno::ENOMEM));
    assert_eq!(advise(1 << 63), Err(Errno::EINVAL));
}

#[test]
fn the_last_addresses_are_not_there_to_be_locked() {
    let mut program = Program::new();
    let mut mlock = |addr: u64| program.call(|mm, update| mm.mlock(addr, PAGE, update));
    assert_eq!(mlock(u64::MAX - 2 * PAGE + 1), Err(Errno::ENOMEM));
    assert_eq!(mlock(u64::MAX - PAGE + 1), Err(Errno::EINVAL));
}

#[test]
fn a_file_may_be_mapped_up_to_its_largest_offset() {
    let mut program = Program::new();
    let mut map = |offset: u64| {
        let file = Some(Inode::new(1).open().with_max_bytes(8 * PAGE));
        let args = Mmap { addr: 0, len: PAGE, prot: PROT_READ, flags: MAP_PRIVATE, offset, file };
        program.call(|mm, update| mm.mmap(args, update)).err()
    };
    assert_eq!(map(7 * PAGE), None);
    assert_eq!(map(8 * PAGE), Some(Errno::EOVERFLOW));
}

#[test]
fn layouts_that_contradict_themselves_are_refused() {
    let mut program = Program::new();
    let layout = Layout::x86_64(8 << 20);
    let mut set = |layout| program.mm.set_layout(layout);
    let (top, unaligned) = (layout.task_size(), Err(Error::Unaligned));
    assert_eq!(set(layout.with_base(top).with_bottom(top).with_huge_pages(0)), Ok(()));
    assert_eq!(set(layout.with_huge_pages(3)), unaligned);
    for bad in [layout.with_base(1), layout.with_bottom(1), layout.with_min_addr(1)] {
        assert_eq!(set(bad), unaligned);
    }
    let beyond = top + PAGE;
    for bad in [
        layout.with_base(beyond),
        layout.with_bottom(beyond),
        layout.with_huge_pages(1 << 41),
        layout.with_protection_keys(17),
    ] {
        assert_eq!(set(bad), Err(Error::OutOfRange));
    }
    assert_eq!(set(layout.with_huge_pages(1 << 40).with_protection_keys(16)), Ok(()));
}

/// tmpfs, in a space whose top is no multiple of a huge page.
#[test]
fn huge_pages_of_tmpfs_go_where_a_gap_fits_them() {
    let file = || Some(Inode::new(1).aligned(Alignment::HugeShmem).open());
    let program = || {
        let mut program = Program::new();
        program.mm.set_layout(program.mm.layout().with_base(TOP)).unwrap();
        program
    };
    let map = |program: &mut Program, len: u64, offset: u64| {
        let args = Mmap { addr: 0, len, prot: RW, flags: MAP_SHARED, offset, file: file() };
        program.call(|mm, update| mm.mmap(args, update)).unwrap()
    };
    let highest = TOP / HUGE * HUGE;
    assert_eq!(map(&mut program(), HUGE, 0), highest - HUGE);
    assert_eq!(map(&mut program(), HUGE + PAGE, 0), highest - HUGE);
    for len in [HUGE - PAGE, HUGE - 2 * PAGE] {
        assert_eq!(map(&mut program(), len, 0), TOP - len);
    }
    assert_eq!(map(&mut program(), 2 * HUGE, PAGE), highest - 2 * HUGE + PAGE);
    let mut none = program();
    none.mm.set_layout(none.mm.layout().with_huge_pages(0)).unwrap();
    assert_eq!(map(&mut none, HUGE, 0), TOP - HUGE);
    // A gap that has just the length is taken where it is aligned.
    let mut full = program();
    full.mmap(highest, TOP - highest, RW, ANON | MAP_FIXED).unwrap();
    full.mmap(highest - 2 * HUGE, HUGE, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(map(&mut full, HUGE, 0), highest - HUGE);
}

/// Nothing is split in the middle where whole VMAs go, however many.
#[test]
fn a_full_program_may_unmap_many_vmas_in_batches() {
    let mut program = Program::new();
    for page in 0..200 {
        program.map(2 * page, 1, RW, ANON);
    }
    // There are even more than are allowed now.
    program.mm.set_max_map_count(1);
    let Program { mm, mut kernel } = program;
    let space = AddrSpace::new(mm);
    assert_eq!(space.munmap(AT, 400 * PAGE, &mut kernel), Ok(0));
    assert_eq!(space.inspect(|mm| mm.map_count()), 0);
}

/// A batch begins and ends where VMAs do, and splits none.
#[test]
fn vmas_that_cannot_be_split_go_in_batches() {
    let mut program = Program::new();
    for page in 0..200 {
        let file = Some(Inode::new(1).restricted(Restrictions::NO_SPLIT).open());
        let (addr, flags) = (AT + page * PAGE, MAP_SHARED | MAP_FIXED);
        let args = Mmap { addr, len: PAGE, prot: RW, flags, offset: 0, file };
        program.call(|mm, update| mm.mmap(args, update)).unwrap();
    }
    let Program { mm, mut kernel } = program;
    let space = AddrSpace::new(mm);
    assert_eq!(space.munmap(AT, 200 * PAGE, &mut kernel), Ok(0));
    assert_eq!(space.inspect(|mm| mm.map_count()), 0);
}

#[test]
fn a_program_with_few_vmas_may_move_some() {
    let moves = |count: u64, most: usize| {
        let mut program = Program::new();
        for page in 0..count {
            program.map(2 * page, 1, RW, ANON);
        }
        program.mm.set_max_map_count(most);
        program.mremap(0, 1, 1, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 1000 * PAGE)
    };
    // Both ranges may be split twice: five less than the limit are too many.
    assert_eq!(moves(15, 20), Err(Errno::ENOMEM));
    assert_eq!(moves(14, 20), Ok(AT + 1000 * PAGE));
}

#[test]
fn memory_above_4_gib_is_above_4_gib() {
    let mut program = Program::new();
    program.mm.set_layout(program.mm.layout().with_base((4 << 30) + 2 * PAGE)).unwrap();
    let mut map = |flags| program.mmap(0, PAGE, RW, ANON | flags).unwrap();
    assert_eq!(map(MAP_ABOVE4G), (4 << 30) + PAGE);
    assert_eq!(map(MAP_ABOVE4G), 4 << 30);
    // The search from the bottom is the last resort.
    assert!(map(MAP_ABOVE4G) > (4 << 30) + PAGE);
    assert_eq!(map(0), (4 << 30) - PAGE);
}

#[test]
fn stacks_grow_down_to_the_lowest_address() {
    let mut program = Program::new();
    let lowest = 16 * PAGE;
    program.mm.set_layout(program.mm.layout().with_min_addr(lowest)).unwrap();
    let flags = ANON | MAP_FIXED | MAP_GROWSDOWN;
    program.mmap(lowest + 8 * PAGE, PAGE, RW, flags).unwrap();
    let mut grow = |addr| {
        let fault = Fault::new(addr, Access::Write);
        program.mm.fault(&fault, &mut program.mm.update(&mut program.kernel))
    };
    assert_eq!(grow(lowest - PAGE), FaultAction::Refuse(SegvCode::MapErr));
    assert_eq!(grow(lowest), FaultAction::Copy);
}

#[test]
fn addresses_that_need_privileges_end_where_they_end() {
    let mut program = Program::new();
    let least = 16 * PAGE;
    program.mm.set_layout(program.mm.layout().with_user_min_addr(least)).unwrap();
    let mut map = |addr| program.mmap(addr, PAGE, RW, ANON | MAP_FIXED);
    assert_eq!(map(least - PAGE), Err(Errno::EPERM));
    assert_eq!(map(least), Ok(least));
}

#[test]
fn all_of_user_space_may_be_asked_for() {
    let mut program = Program::new();
    let fixed = ANON | MAP_FIXED;
    assert_eq!(program.mmap(0, TOP, 0, fixed), Err(Errno::EPERM));
    assert_eq!(program.mmap(0, TOP + PAGE, 0, fixed), Err(Errno::ENOMEM));
    assert_eq!(program.mmap(0, TOP, 0, ANON), Err(Errno::ENOMEM));
    program.kernel.capabilities = Capabilities::SYS_RAWIO;
    assert_eq!(program.mmap(0, TOP, 0, fixed), Ok(0));
}

#[test]
fn what_cannot_be_split_may_end_where_a_range_does() {
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    let vma = Install {
        start: AT + PAGE,
        end: AT + 3 * PAGE,
        flags: VmFlags::READ | VmFlags::MAY_READ,
        offset: 0,
        handle: Some((Inode::new(1).named("[vdso]"), Role::Special)),
    };
    program.call(|mm, update| mm.install(vma, update).map(|()| 0)).unwrap();
    let mut munmap = |pages| program.call(|mm, update| mm.munmap(AT, pages * PAGE, update));
    assert_eq!(munmap(2), Err(Errno::EINVAL));
    assert_eq!(munmap(3), Ok(0));
    assert_eq!(program.ranges(), []);
}
