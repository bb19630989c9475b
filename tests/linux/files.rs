//! The properties of files: seals, flags of their VMAs, placement, what calls may not do.
//! `tests/live/files` asks the running kernel the same.

use kvma::linux::abi::*;
use kvma::linux::{
    Alignment, Capabilities, CommitLimit, Layout, Mm, Mmap, OpenFile, Resource, Restrictions,
    Rights, Traits, VmFlags,
};
use kvma::{Errno, Heap, PageSize};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

const HUGE: u64 = 2 << 20;
const FAR: u64 = AT + 512 * HUGE;
const SHARED: u64 = MAP_SHARED | MAP_FIXED;
const MOVE: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;
const ENODEV: Errno = Errno(19);

/// A program, and a file that it maps.
struct Program {
    mm: Mm<Inode, Heap>,
    kernel: TestKernel,
    file: OpenFile<Inode>,
}

impl Program {
    fn new(file: Inode) -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        Self { mm, kernel: TestKernel::default(), file: file.open() }
    }

    fn with_traits(traits: Traits) -> Self {
        let program = Self::new(Inode::new(1));
        let file = program.file.clone().with_traits(traits);
        Self { file, ..program }
    }

    /// Makes a file that gives its VMAs these flags.
    fn with_flags(file: Inode, flags: VmFlags) -> Self {
        let mut program = Self::new(file);
        program.kernel.file_flags.0 = flags;
        program
    }

    fn map(&mut self, addr: u64, pages: u64, prot: u64, flags: u64) -> Result<u64, Errno> {
        self.map_at(addr, pages * PAGE, prot, flags, 0)
    }

    fn map_at(
        &mut self,
        addr: u64,
        len: u64,
        prot: u64,
        flags: u64,
        offset: u64,
    ) -> Result<u64, Errno> {
        let file = Some(self.file.clone());
        let args = Mmap { addr, len, prot, flags, offset, file };
        let answer = self.mm.mmap(args, &mut self.mm.update(&mut self.kernel));
        self.mm.check().unwrap();
        answer
    }

    fn madvise(&mut self, addr: u64, pages: u64, advice: u64) -> Result<u64, Errno> {
        self.mm.madvise(addr, pages * PAGE, advice, &mut self.mm.update(&mut self.kernel))
    }

    fn mprotect(&mut self, addr: u64, pages: u64, prot: u64) -> Result<u64, Errno> {
        self.mm.mprotect(addr, pages * PAGE, prot, &mut self.mm.update(&mut self.kernel))
    }

    fn mremap(&mut self, old: u64, pages: u64, new: u64, flags: u64) -> Result<u64, Errno> {
        let len = pages * PAGE;
        self.mm.mremap(old, len, len, flags, new, &mut self.mm.update(&mut self.kernel))
    }

    fn munmap(&mut self, addr: u64, pages: u64) -> Result<u64, Errno> {
        self.mm.munmap(addr, pages * PAGE, &mut self.mm.update(&mut self.kernel))
    }

    fn mlock(&mut self, addr: u64, pages: u64) -> Result<u64, Errno> {
        self.mm.mlock(addr, pages * PAGE, &mut self.mm.update(&mut self.kernel))
    }

    /// First page above `AT`, pages, flags.
    fn vmas(&self) -> Vec<(u64, u64, String)> {
        let page = |addr: u64| (addr - AT) / PAGE;
        let vmas = self.mm.iter();
        vmas.map(|vma| (page(vma.start()), vma.page_count(), VmFlags::of(&vma).to_string()))
            .collect()
    }
}

fn vma(first: u64, pages: u64, flags: &str) -> (u64, u64, String) {
    (first, pages, format!("{flags} "))
}

#[test]
fn a_write_seal_is_checked_before_the_old_range_goes() {
    let mut program = Program::with_traits(Traits::WRITE_SEALED);
    program.map(AT, 4, RW, ANON | MAP_FIXED).unwrap();
    let before = program.vmas();
    assert_eq!(program.map(AT, 4, RW, SHARED), Err(Errno::EPERM));
    assert_eq!(program.map(AT + PAGE, 1, RW, SHARED), Err(Errno::EPERM));
    assert_eq!(program.vmas(), before);
    // What the call itself may not, it may not before it is sealed.
    assert_eq!(program.map(AT, 4, RW, SHARED | MAP_GROWSDOWN), Err(Errno::EINVAL));
    program.file = OpenFile::new(Inode::new(1), Rights::READ).with_traits(Traits::WRITE_SEALED);
    assert_eq!(program.map(AT, 4, RW, SHARED), Err(Errno::EACCES));
}

#[test]
fn a_sealed_file_stays_shared_and_is_never_writable() {
    let mut program = Program::with_traits(Traits::WRITE_SEALED);
    program.map(AT, 4, PROT_READ, SHARED).unwrap();
    assert_eq!(program.vmas(), [vma(0, 4, "rd sh mr me ms")]);
    assert_eq!(program.mprotect(AT, 1, RW), Err(Errno::EACCES));
    assert_eq!(program.madvise(AT, 1, 9), Err(Errno::EACCES));
    assert_eq!(program.mprotect(AT, 4, PROT_READ | PROT_EXEC), Ok(0));
    assert_eq!(program.vmas(), [vma(0, 4, "rd ex sh mr me ms")]);
    // Private pages are the program's own.
    program.map(AT, 4, RW, MAP_PRIVATE | MAP_FIXED).unwrap();
    assert_eq!(program.vmas(), [vma(0, 4, "rd wr mr mw me ac")]);
}

#[test]
fn a_file_sets_and_clears_flags_of_its_vmas() {
    let ring = VmFlags::DONT_EXPAND | VmFlags::MIXED_MAP;
    let mut program = Program::with_flags(Inode::new(1), ring);
    program.kernel.file_flags.1 = VmFlags::MAY_EXEC;
    program.map(AT, 1, RW, SHARED).unwrap();
    program.map_at(AT + PAGE, PAGE, RW, SHARED, PAGE).unwrap();
    // They never merge.
    let flags = "rd wr sh mr mw ms de mm";
    assert_eq!(program.vmas(), [vma(0, 1, flags), vma(1, 1, flags)]);
    assert_eq!(program.mprotect(AT, 1, PROT_READ | PROT_EXEC), Err(Errno::EACCES));
    for advice in [17, 25, 102, 103] {
        assert_eq!(program.madvise(AT, 1, advice), Err(Errno::EINVAL), "{advice}");
    }
    assert_eq!(program.madvise(AT, 1, 11), Ok(0));
    let moved = program.mremap(AT, 1, 0, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    assert_eq!(moved, Err(Errno::EINVAL));
    let mut call = program.mm.update(&mut program.kernel);
    let grown = program.mm.mremap(AT + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, &mut call);
    assert_eq!(grown, Err(Errno::EFAULT));
}

#[test]
fn memory_of_devices_is_never_locked_or_dumped() {
    let device = VmFlags::IO | VmFlags::PFN_MAP | VmFlags::DONT_COPY | VmFlags::DONT_DUMP;
    let mut program = Program::with_flags(Inode::new(1), device);
    program.map(AT, 2, RW, SHARED | MAP_LOCKED).unwrap();
    assert_eq!(program.vmas(), [vma(0, 2, "rd wr sh mr mw me ms pf io dc dd")]);
    assert_eq!(program.mm.usage().locked(), 0);
    for advice in [4, 11, 17, 20, 22, 23, 24, 102] {
        assert_eq!(program.madvise(AT, 2, advice), Err(Errno::EINVAL), "{advice}");
    }
    assert_eq!(program.mlock(AT, 1), Ok(0));
    // Nothing but what was asked for is populated, and not even that.
    assert_eq!(program.kernel.page_ops, []);
    assert_eq!(program.vmas().len(), 1);
    // Left out of a child.
    let child = program.mm.fork(&mut program.mm.update(&mut program.kernel)).unwrap();
    assert_eq!(child.map_count(), 0);
}

#[test]
fn a_file_cannot_change_what_the_counts_rest_on() {
    let mut program = Program::new(Inode::new(1));
    program.kernel.file_flags =
        (VmFlags::SEALED | VmFlags::HUGE_TLB | VmFlags::EXEC, VmFlags::ACCOUNT | VmFlags::WRITE);
    program.map(AT, 4, RW, MAP_PRIVATE | MAP_FIXED).unwrap();
    assert_eq!(program.vmas(), [vma(0, 4, "rd wr mr mw me ac")]);
    // Nor give what mmap has taken away.
    program.kernel.file_flags = (VmFlags::MAY_WRITE, VmFlags::empty());
    program.file = OpenFile::new(Inode::new(1), Rights::READ);
    program.map(AT, 4, PROT_READ, SHARED).unwrap();
    assert_eq!(program.vmas(), [vma(0, 4, "rd mr me ms")]);
}

#[test]
fn secret_memory_is_locked_by_its_file_alone() {
    let restrictions = Restrictions::NO_LOCK | Restrictions::NO_POPULATE;
    let flags = VmFlags::LOCKED | VmFlags::DONT_DUMP;
    let mut program = Program::with_flags(Inode::new(1).restricted(restrictions), flags);
    program.map(AT, 2, RW, SHARED).unwrap();
    program.map_at(AT + 2 * PAGE, 2 * PAGE, RW, SHARED, 2 * PAGE).unwrap();
    // It merges with what has the same flags.
    let secret = "rd wr sh mr mw me ms lo dd";
    assert_eq!(program.vmas(), [vma(0, 4, secret)]);
    assert_eq!(program.mm.usage().locked(), 4 * PAGE);
    let mut call = program.mm.update(&mut program.kernel);
    assert_eq!(program.mm.munlock(AT, PAGE, &mut call), Ok(0));
    assert_eq!(program.mm.mlockall(MCL_CURRENT | MCL_ONFAULT, &mut call), Ok(0));
    assert_eq!(program.mm.munlockall(&mut call), 0);
    drop(call);
    assert_eq!(program.mlock(AT, 1), Err(Errno::ENOMEM));
    assert_eq!(program.vmas(), [vma(0, 4, secret)]);
    assert_eq!(program.madvise(AT, 1, 22), Err(Errno::EINVAL));
    assert_eq!(program.madvise(AT, 1, 4), Err(Errno::EINVAL));
    // It may be dumped again, and populating it is in vain.
    assert_eq!(program.madvise(AT, 4, 17), Ok(0));
    program.kernel.file_flags = (VmFlags::empty(), VmFlags::empty());
    program.map(FAR, 4, RW, SHARED | MAP_POPULATE).unwrap();
    assert_eq!(program.kernel.page_ops, []);
}

#[test]
fn what_a_file_locks_counts_against_the_limit() {
    let mut program = Program::with_flags(Inode::new(1), VmFlags::LOCKED);
    program.mm.set_limits(program.mm.limits().with(Resource::MemLock, 4 * PAGE));
    program.map(AT, 4, RW, SHARED).unwrap();
    assert_eq!(program.map(AT + 4 * PAGE, 1, RW, SHARED), Err(Errno::EAGAIN));
    // By then the old range has gone.
    assert_eq!(program.map(AT, 5, RW, SHARED), Err(Errno::EAGAIN));
    assert_eq!(program.vmas(), []);
    program.kernel.capabilities = Capabilities::IPC_LOCK;
    assert_eq!(program.map(AT, 5, RW, SHARED), Ok(AT));
}

#[test]
fn a_refusing_file_answers_for_itself_when_the_old_range_has_gone() {
    for errno in [Errno::EINVAL, Errno::EPERM, ENODEV, Errno(1000)] {
        let mut program = Program::new(Inode::new(1));
        program.map(AT, 4, RW, ANON | MAP_FIXED).unwrap();
        program.kernel.refuse_files = Some(errno);
        assert_eq!(program.map(AT + PAGE, 1, RW, MAP_PRIVATE | MAP_FIXED), Err(errno));
        let left: Vec<_> = program.vmas().into_iter().map(|vma| (vma.0, vma.1)).collect();
        assert_eq!(left, [(0, 1), (2, 2)]);
        assert_eq!(program.kernel.charged, 3 * PAGE);
    }
}

#[test]
fn a_file_may_take_no_address() {
    let mut program = Program::new(Inode::new(1).restricted(Restrictions::NO_ADDRESS));
    let base = program.mm.layout().base();
    assert_eq!(program.map(AT, 1, RW, SHARED), Err(Errno::EINVAL));
    assert_eq!(program.map(AT, 1, RW, MAP_SHARED), Err(Errno::EINVAL));
    // Not even a range that could never be.
    assert_eq!(program.map(AT, 1 << 40, RW, SHARED), Err(Errno::ENOMEM));
    assert_eq!(program.map(0, 1, RW, MAP_SHARED), Ok(base - PAGE));
    program.map(FAR, 1, RW, ANON | MAP_FIXED).unwrap();
    assert_eq!(program.mremap(base - PAGE, 1, FAR, MOVE), Err(Errno::EINVAL));
    // The target has gone.
    assert_eq!(program.mm.map_count(), 1);
    // A growing move asks for any address.
    let mut call = program.mm.update(&mut program.kernel);
    let moved = program.mm.mremap(base - PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, &mut call);
    assert!(moved.is_ok());
}

#[test]
fn several_vmas_are_not_moved_with_a_file_that_goes_alone() {
    for restriction in [Restrictions::NO_ADDRESS, Restrictions::NO_JOINT_MOVE] {
        let mut program = Program::new(Inode::new(1));
        program.map(AT, 1, RW, ANON | MAP_FIXED).unwrap();
        program.map(AT + 4 * PAGE, 1, RW, ANON | MAP_FIXED).unwrap();
        // At a place where it was mapped without an address.
        let layout = program.mm.layout().with_base(AT + 3 * PAGE);
        program.mm.set_layout(layout).unwrap();
        program.file = Inode::new(1).restricted(restriction).open();
        assert_eq!(program.map(0, 2, RW, MAP_SHARED), Ok(AT + PAGE));
        // It is not the only one.
        assert_eq!(program.mremap(AT + PAGE, 4, FAR, MOVE), Err(Errno::EFAULT));
        // It is not the first one. That has moved, which makes room for nothing.
        assert_eq!(program.mremap(AT, 3, FAR, MOVE), Err(Errno::EFAULT));
        let starts: Vec<_> = program.mm.iter().map(|vma| vma.start()).collect();
        assert_eq!(starts, [AT + PAGE, AT + 4 * PAGE, FAR]);
        let alone = program.mremap(AT + PAGE, 2, FAR + HUGE, MOVE);
        let refused = restriction == Restrictions::NO_ADDRESS;
        assert_eq!(alone, if refused { Err(Errno::EINVAL) } else { Ok(FAR + HUGE) });
    }
}

#[test]
fn a_file_may_refuse_to_be_split() {
    let mut program = Program::new(Inode::new(1).restricted(Restrictions::NO_SPLIT));
    program.map(AT, 3, RW, SHARED).unwrap();
    let before = program.vmas();
    for page in [AT, AT + PAGE, AT + 2 * PAGE] {
        assert_eq!(program.munmap(page, 1), Err(Errno::EINVAL));
        assert_eq!(program.mprotect(page, 1, PROT_READ), Err(Errno::EINVAL));
        assert_eq!(program.map(page, 1, RW, ANON | MAP_FIXED), Err(Errno::EINVAL));
        assert_eq!(program.madvise(page, 1, 10), Err(Errno::EINVAL));
        assert_eq!(program.mremap(page, 1, FAR, MOVE), Err(Errno::EINVAL));
    }
    assert_eq!(program.vmas(), before);
    // As a whole it is like any other.
    assert_eq!(program.mprotect(AT, 3, PROT_READ), Ok(0));
    assert_eq!(program.mremap(AT, 3, FAR, MOVE), Ok(FAR));
    assert_eq!(program.munmap(FAR, 3), Ok(0));
}

/// The result of `shmem_get_unmapped_area` in an empty space.
#[test]
fn huge_pages_of_tmpfs_are_aligned_where_they_fit() {
    let mut program = Program::new(Inode::new(1).aligned(Alignment::HugeShmem));
    let mut map = |len, offset| program.map_at(0, len, RW, MAP_SHARED, offset).unwrap();
    assert_eq!(map(2 * HUGE, 0), 0x7fff_f7a0_0000);
    // Too short for a huge page: at the top.
    assert_eq!(map(HUGE - PAGE, 0), 0x7fff_f7e0_0000);
    // An offset that leaves no whole huge page.
    assert_eq!(map(HUGE, PAGE), 0x7fff_f780_0000);
    assert_eq!(map(2 * HUGE, PAGE), 0x7fff_f720_1000);
    // The plain place fits by itself.
    assert_eq!(map(HUGE + PAGE, HUGE - PAGE), 0x7fff_f6ff_f000);
    // A hint that can be had is taken.
    let shared = |addr| program.map_at(addr, 2 * HUGE, RW, MAP_SHARED, 0).unwrap();
    let mut shared = shared;
    assert_eq!(shared(AT + PAGE), AT + PAGE);
    assert_eq!(shared(AT + 2 * PAGE), 0x7fff_f6a0_0000);
}

#[test]
fn a_processor_without_protection_keys_has_none() {
    let mut program = Program::new(Inode::new(1));
    program.map(AT, 1, RW, ANON | MAP_FIXED).unwrap();
    let keys = |count| program.mm.layout().with_protection_keys(count);
    let (none, eight, many) = (keys(0), keys(8), keys(17));
    assert_eq!(program.mm.set_layout(many), Err(kvma::Error::OutOfRange));
    program.mm.set_layout(none).unwrap();
    assert_eq!(program.mm.pkey_alloc(0, 0), Err(Errno::EINVAL));
    assert_eq!(program.mm.pkey_free(0), Err(Errno::EINVAL));
    let mut call = program.mm.update(&mut program.kernel);
    let mut protect = |key| program.mm.pkey_mprotect(AT, PAGE, PROT_READ, key, &mut call);
    assert_eq!(protect(0), Err(Errno::EINVAL));
    // Plain mprotect.
    assert_eq!(protect(u64::MAX), Ok(0));
    drop(call);
    // Other processors have fewer than x86-64.
    program.mm.set_layout(eight).unwrap();
    for key in 1..8 {
        assert_eq!(program.mm.pkey_alloc(0, 0), Ok(key));
    }
    assert_eq!(program.mm.pkey_alloc(0, 0), Err(Errno(28)));
}

/// `shmem_get_unmapped_area`: lengths around one huge page, and gaps that are no longer than asked
/// for.
#[test]
fn huge_pages_of_tmpfs_are_aligned_only_if_there_are_any() {
    let place = |base: u64, taken: Option<u64>, len| {
        let mut program = Program::new(Inode::new(1).aligned(Alignment::HugeShmem));
        program.mm.set_layout(program.mm.layout().with_base(base)).unwrap();
        if let Some(taken) = taken {
            program.map(taken, 1, PROT_READ, ANON | MAP_FIXED).unwrap();
        }
        program.map_at(0, len, RW, MAP_SHARED, 0).unwrap()
    };
    let (base, aligned) = (0x7fff_f7ff_f000, 0x7fff_f7e0_0000);
    assert_eq!(place(base, None, HUGE - 2 * PAGE), base - HUGE + 2 * PAGE);
    assert_eq!(place(base, None, HUGE), aligned - HUGE);
    assert_eq!(place(base - PAGE, None, 2 * HUGE), aligned - 2 * HUGE);
    // The plain place fits, and there is no room for any other.
    let below = aligned - 2 * HUGE - PAGE;
    assert_eq!(place(aligned, Some(below), 2 * HUGE), aligned - 2 * HUGE);
    // No room for more than the plain place, which does not fit: further down.
    let base = aligned + PAGE;
    assert_eq!(place(base, Some(base - 2 * HUGE - PAGE), 2 * HUGE), aligned - 4 * HUGE);
}

/// `prep_move_vma` comes before the charge.
#[test]
fn what_cannot_be_split_is_not_charged_for_a_move() {
    let mut program = Program::new(Inode::new(1).restricted(Restrictions::NO_SPLIT));
    program.map(AT, 4, RW, MAP_PRIVATE | MAP_FIXED).unwrap();
    program.map(AT + 4 * PAGE, 1, PROT_READ, ANON | MAP_FIXED).unwrap();
    let limit = CommitLimit::of_bytes(PageSize::SIZE_4K, program.kernel.charged, 0);
    program.kernel.set_commit_limit(limit);
    let mut grow = |page: u64, pages: u64| {
        let (old, len) = (AT + page * PAGE, pages * PAGE);
        let mut call = program.mm.update(&mut program.kernel);
        program.mm.mremap(old, len, len + PAGE, MREMAP_MAYMOVE, 0, &mut call)
    };
    assert_eq!(grow(0, 2), Err(Errno::EINVAL));
    assert_eq!(grow(2, 2), Err(Errno::EINVAL));
    assert_eq!(grow(1, 2), Err(Errno::EINVAL));
    assert_eq!(grow(0, 4), Err(Errno::ENOMEM));
}
