//! Calls at their edges: of the address space, of the largest number of VMAs, of flags that go
//! together.

use kvma::linux::abi::*;
use kvma::linux::{
    Access, Alignment, Fault, FaultAction, Gate, Inheritance, Install, Kernel, Layout, LinuxVma,
    Mm, Mmap, PageOp, Policy, Resource, Rules, SegvCode, Target, UNSERVED, Usage, VmFlags,
    WithErrno, WriteExec,
};
use kvma::{AddrSpace, Direction, Errno, Error, Event, Heap, Hooks, Piece, hooks};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

const SHARED: u64 = MAP_SHARED | MAP_ANONYMOUS;
const RX: u64 = PROT_READ | PROT_EXEC;
const POPULATE_WRITE: u64 = 23;
const COLLAPSE: u64 = 25;
const HUGE: u64 = 2 << 20;
const TOP: u64 = 0x7fff_ffff_f000;

struct Program {
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
}

impl Program {
    fn new() -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        Self { mm, kernel: TestKernel::default() }
    }

    /// Lets the program have no more VMAs than it has.
    fn full(mut self) -> Self {
        self.mm.set_max_map_count(self.mm.map_count());
        self
    }

    fn call(
        &mut self,
        call: impl FnOnce(
            &mut Mm<Inode, Heap>,
            &mut kvma::Update<'_, LinuxVma<Inode>, Heap, TestKernel>,
        ) -> Result<u64, Errno>,
    ) -> Result<u64, Errno> {
        let mut update = self.mm.update(&mut self.kernel);
        let answer = call(&mut self.mm, &mut update);
        update.finish();
        self.mm.check().unwrap();
        answer
    }

    fn mmap(&mut self, addr: u64, len: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        let args = Mmap { addr, len, prot, flags, offset: 0, file: None };
        self.call(|mm, update| mm.mmap(args, update))
    }

    fn map(&mut self, page: u64, pages: u64, prot: u64, flags: u64) {
        let at = AT + page * PAGE;
        assert_eq!(self.mmap(at, pages * PAGE, prot, flags | MAP_FIXED), Ok(at));
    }

    fn mprotect(&mut self, page: u64, pages: u64, prot: u64) -> Result<u64, Errno> {
        self.call(|mm, update| mm.mprotect(AT + page * PAGE, pages * PAGE, prot, update))
    }

    fn madvise(&mut self, page: u64, pages: u64, advice: u64) -> Result<u64, Errno> {
        self.call(|mm, update| mm.madvise(AT + page * PAGE, pages * PAGE, advice, update))
    }

    fn mremap(&mut self, page: u64, old: u64, new: u64, flags: u64, to: u64) -> Result<u64, Errno> {
        let (addr, old, new) = (AT + page * PAGE, old * PAGE, new * PAGE);
        self.call(|mm, update| mm.mremap(addr, old, new, flags, to, update))
    }

    fn write(&mut self, page: u64) {
        let write = Fault::new(AT + page * PAGE, Access::Write);
        let action = self.mm.fault(&write, &mut self.mm.update(&mut self.kernel));
        assert_eq!(action, FaultAction::Copy);
    }

    /// First page above `AT` and pages of each VMA that lies there.
    fn ranges(&self) -> Vec<(u64, u64)> {
        let vmas = self.mm.iter().filter(|vma| (AT..AT + (1 << 30)).contains(&vma.start()));
        vmas.map(|vma| ((vma.start() - AT) / PAGE, vma.page_count())).collect()
    }

    fn flags(&self, page: u64) -> VmFlags {
        VmFlags::of(&self.mm.iter().find(|vma| vma.range().contains(AT + page * PAGE)).unwrap())
    }
}

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

/// What lies behind a gap, or differs in something else, is no neighbour to merge with.
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

#[test]
fn a_new_address_ends_with_user_space() {
    let to = |addr| {
        let mut program = Program::new();
        program.map(0, 4, RW, ANON);
        program.mremap(0, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, addr)
    };
    assert_eq!(to(TOP - 4 * PAGE), Ok(TOP - 4 * PAGE));
    for addr in [TOP - 3 * PAGE, TOP, TOP + PAGE, 1 << 62] {
        assert_eq!(to(addr), Err(Errno::EINVAL), "{addr:#x}");
    }
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    let pages = TOP / PAGE;
    assert_eq!(program.mremap(0, 1, pages + 1, MREMAP_MAYMOVE, 0), Err(Errno::EINVAL));
    assert_eq!(program.mremap(0, 1, pages, MREMAP_MAYMOVE, 0), Err(Errno::ENOMEM));
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

const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;

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

/// What is written back is shared, and a file's.
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

#[test]
fn a_program_cannot_get_a_layout_of_another_size() {
    let mut program = Program::new();
    let layout = Layout::x86_64(8 << 20);
    assert_eq!(program.mm.set_layout(layout), Ok(()));
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

/// Hooks that refuse the second event if they are to, and note what else they hear.
#[derive(Default)]
struct Notes {
    refuse_second: bool,
    prepared: Vec<u64>,
    cancelled: Vec<u64>,
    flushed: u32,
    released: u32,
}

impl Hooks<LinuxVma<Inode>> for Notes {
    type Error = Error;

    fn prepare(&mut self, event: &Event<'_, LinuxVma<Inode>>) -> Result<(), Error> {
        if self.refuse_second && !self.prepared.is_empty() {
            return Err(Error::OutOfMemory);
        }
        self.prepared.push(event.piece().range().start());
        Ok(())
    }

    fn cancel(&mut self, event: &Event<'_, LinuxVma<Inode>>) {
        self.cancelled.push(event.piece().range().start());
    }

    fn flush_begin(&mut self) {
        self.flushed += 1;
    }

    fn release(&mut self, _removed: hooks::RemovedVma<LinuxVma<Inode>>) {
        self.released += 1;
    }
}

#[test]
fn hooks_that_become_a_kernel_hear_everything() {
    let mut program = Program::new();
    program.map(0, 1, RW, ANON);
    program.map(1, 1, PROT_READ, ANON);
    let mut kernel = WithErrno(Notes { refuse_second: true, ..Notes::default() });
    let answer = program.mm.munmap(AT, 2 * PAGE, &mut program.mm.update(&mut kernel));
    assert_eq!(answer, Err(Errno::ENOMEM));
    assert_eq!((kernel.0.prepared, kernel.0.cancelled), (vec![AT], vec![AT]));
    let mut kernel = WithErrno(Notes::default());
    let mut update = program.mm.update(&mut kernel);
    assert_eq!(program.mm.munmap(AT, 2 * PAGE, &mut update), Ok(0));
    update.finish();
    assert_eq!((kernel.0.flushed, kernel.0.released), (1, 2));
}

/// A kernel that counts what is charged, and lets no child inherit more than one VMA.
#[derive(Default)]
struct NoChildren {
    charged: u64,
    inherited: u32,
}

impl Hooks<LinuxVma<Inode>> for NoChildren {
    type Error = Errno;
}

impl Kernel<Inode> for NoChildren {
    fn charge(&mut self, bytes: u64, _: &Usage) -> Result<(), Errno> {
        self.charged += bytes;
        Ok(())
    }

    fn uncharge(&mut self, bytes: u64) {
        self.charged -= bytes;
    }

    fn inherit(&mut self, _: Inheritance, _: &Piece<'_, LinuxVma<Inode>>) -> Result<(), Errno> {
        self.inherited += 1;
        if self.inherited > 1 { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

#[test]
fn a_fork_that_is_refused_is_not_charged_for() {
    let mut program = Program::new();
    program.map(0, 4, RW, ANON);
    program.map(8, 4, RW, ANON);
    let mut kernel = NoChildren { charged: 8 * PAGE, inherited: 0 };
    let refused = program.mm.fork(&mut program.mm.update(&mut kernel)).err();
    assert_eq!((refused, kernel.inherited, kernel.charged), (Some(Errno::ENOMEM), 2, 8 * PAGE));
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

/// What one of two was known for, the one that they become is.
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
fn the_gate_is_readable_if_it_is_to_be() {
    let mut program = Program::new();
    for (gate, perms) in [(Gate::Execute, "--xp"), (Gate::ReadExecute, "r-xp")] {
        program.mm.set_gate(gate);
        let line = program.mm.maps().last().unwrap().to_string();
        assert!(line.contains(perms) && line.contains("[vsyscall]"), "{line}");
    }
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
    let map = |program: &mut Program, len: u64, flags: u64| {
        let flags = flags | MAP_SHARED;
        let args = Mmap { addr: 0, len, prot: RW, flags, offset: 0, file: file() };
        program.call(|mm, update| mm.mmap(args, update)).unwrap()
    };
    let highest = TOP / HUGE * HUGE;
    assert_eq!(map(&mut program(), HUGE, 0), highest - HUGE);
    assert_eq!(map(&mut program(), HUGE - PAGE, 0), TOP - (HUGE - PAGE));
    // A gap that has just the length is taken where it is aligned.
    let mut full = program();
    full.mmap(highest, TOP - highest, RW, ANON | MAP_FIXED).unwrap();
    full.mmap(highest - 2 * HUGE, HUGE, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(map(&mut full, HUGE, 0), highest - HUGE);
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

/// Nothing is split in the middle where whole VMAs go, however many.
#[test]
fn a_full_program_may_unmap_many_vmas_in_batches() {
    let mut program = Program::new();
    for page in 0..200 {
        program.map(2 * page, 1, RW, ANON);
    }
    let Program { mm, mut kernel } = program.full();
    let space = AddrSpace::new(mm);
    assert_eq!(space.munmap(AT, 400 * PAGE, &mut kernel), Ok(0));
    assert_eq!(space.inspect(|mm| mm.map_count()), 0);
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
