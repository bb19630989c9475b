//! System V shared memory: shmat(2) and shmdt(2). `tests/live/files` asks the running kernel the
//! same.

use kvma::linux::abi::*;
use kvma::linux::{Layout, Mm, Mmap, NoKernel, Shmat, VmFlags};
use kvma::{AddrSpace, Errno, Heap};
use kvma_test_support::Inode;

use super::{ANON, AT, PAGE, RW};

const HUGE: u64 = 2 << 20;
const MOVE: u64 = MREMAP_MAYMOVE | MREMAP_FIXED;
/// The segment was removed.
const EIDRM: Errno = Errno(43);

struct Program {
    space: AddrSpace<Mm<Inode, Heap>>,
    attachments: u64,
}

impl Program {
    fn new() -> Self {
        let mm = Mm::new(Layout::x86_64(8 << 20), Heap).unwrap();
        Self { space: AddrSpace::new(mm), attachments: 0 }
    }

    /// Attaches a segment of a little more than five pages.
    fn attach(&mut self, addr: u64, flags: u64) -> Result<u64, Errno> {
        self.attachments += 1;
        let segment = Ok(Inode::new(self.attachments).segment(5 * PAGE + 100));
        self.space.shmat(Shmat { segment, addr, flags }, &mut NoKernel)
    }

    fn detach(&self, addr: u64) -> Result<u64, Errno> {
        self.space.shmdt(addr, &mut NoKernel)
    }

    fn map(&self, addr: u64, pages: u64) {
        let (len, flags) = (pages * PAGE, ANON | MAP_FIXED);
        let args = Mmap { addr, len, prot: RW, flags, offset: 0, file: None };
        self.space.mmap(args, &mut NoKernel).unwrap();
    }

    /// First page above `AT`, pages, flags.
    fn vmas(&self) -> Vec<(u64, u64, String)> {
        self.space.inspect(|mm| {
            mm.check().unwrap();
            let page = |addr: u64| (addr - AT) / PAGE;
            mm.iter()
                .map(|vma| (page(vma.start()), vma.page_count(), VmFlags::of(&vma).to_string()))
                .collect()
        })
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        self.vmas().into_iter().map(|(first, pages, _)| (first, pages)).collect()
    }
}

#[test]
fn a_segment_is_mapped_with_the_access_that_was_asked_for() {
    let access = [
        (0, "rd wr sh mr mw me ms "),
        (SHM_RDONLY, "rd mr me ms "),
        (SHM_EXEC, "rd wr ex sh mr mw me ms "),
        (SHM_RDONLY | SHM_EXEC, "rd ex mr me ms "),
    ];
    for (flags, shown) in access {
        let mut program = Program::new();
        assert_eq!(program.attach(AT, flags), Ok(AT));
        assert_eq!(program.vmas(), [(0, 6, shown.to_owned())]);
        let base = program.space.inspect(|mm| mm.layout().base());
        assert_eq!(program.attach(0, flags), Ok(base - 6 * PAGE));
    }
}

#[test]
fn an_address_must_be_aligned_and_free_unless_told_otherwise() {
    let mut program = Program::new();
    assert_eq!(program.attach(AT + 1, 0), Err(Errno::EINVAL));
    assert_eq!(program.attach(AT + 1, SHM_RND), Ok(AT));
    assert_eq!(program.attach(AT + 5 * PAGE, 0), Err(Errno::EINVAL));
    assert_eq!(program.attach(AT + 5 * PAGE, SHM_REMAP), Ok(AT + 5 * PAGE));
    assert_eq!(program.ranges(), [(0, 5), (5, 6)]);
    assert_eq!(program.attach(0, SHM_REMAP), Err(Errno::EINVAL));
    // Rounded down to nothing, it would replace what happens to be mapped anywhere.
    assert_eq!(program.attach(1, SHM_RND | SHM_REMAP), Err(Errno::EINVAL));
    assert_eq!(program.attach(1, SHM_RND), Err(Errno::EPERM));
    let end = program.space.inspect(|mm| mm.layout().task_size());
    assert_eq!(program.attach(end - PAGE, 0), Err(Errno::ENOMEM));
    assert_eq!(program.attach(PAGE.wrapping_neg(), 0), Err(Errno::EINVAL));
    // The flags are an int.
    assert_eq!(program.attach(AT + HUGE, SHM_RDONLY << 32), Ok(AT + HUGE));
}

#[test]
fn the_address_is_checked_before_the_segment() {
    let program = Program::new();
    let attach = |addr, errno| {
        let segment: Result<Inode, _> = Err(errno);
        program.space.shmat(Shmat { segment, addr, flags: 0 }, &mut NoKernel)
    };
    assert_eq!(attach(AT + 1, EIDRM), Err(Errno::EINVAL));
    assert_eq!(attach(AT, EIDRM), Err(EIDRM));
    assert_eq!(attach(0, Errno::EACCES), Err(Errno::EACCES));
    // A file that is no segment.
    let file = Ok(Inode::new(1));
    let args = Shmat { segment: file, addr: AT, flags: 0 };
    assert_eq!(program.space.shmat(args, &mut NoKernel), Err(Errno::EINVAL));
}

#[test]
fn two_attachments_never_merge() {
    let mut program = Program::new();
    program.attach(AT, 0).unwrap();
    program.attach(AT + 6 * PAGE, 0).unwrap();
    assert_eq!(program.ranges(), [(0, 6), (6, 6)]);
    // They move alone.
    let k = &mut NoKernel;
    let moved = program.space.mremap(AT, 12 * PAGE, 12 * PAGE, MOVE, AT + HUGE, k);
    assert_eq!(moved, Err(Errno::EFAULT));
    let moved = program.space.mremap(AT, 6 * PAGE, 6 * PAGE, MOVE, AT + HUGE, k);
    assert_eq!(moved, Ok(AT + HUGE));
    assert_eq!(program.detach(AT + HUGE), Ok(0));
    assert_eq!(program.ranges(), [(6, 6)]);
}

#[test]
fn a_segment_in_pieces_is_detached_as_a_whole() {
    let mut program = Program::new();
    program.attach(AT, 0).unwrap();
    let k = &mut NoKernel;
    program.space.munmap(AT + PAGE, PAGE, k).unwrap();
    program.space.mprotect(AT + 3 * PAGE, PAGE, PROT_READ, k).unwrap();
    program.map(AT + 4 * PAGE, 1);
    // A page of another one, where it belongs if it were of this one.
    program.attach(AT + HUGE, 0).unwrap();
    program.space.mremap(AT + HUGE + PAGE, PAGE, PAGE, MOVE, AT + PAGE, k).unwrap();
    assert_eq!(program.detach(AT + 1), Err(Errno::EINVAL));
    assert_eq!(program.detach(AT + 2 * PAGE), Err(Errno::EINVAL));
    assert_eq!(program.detach(AT), Ok(0));
    assert_eq!(program.ranges()[..2], [(1, 1), (4, 1)]);
    // The page that was moved here counts as the beginning of its own.
    assert_eq!(program.detach(AT), Ok(0));
    assert_eq!(program.ranges()[..1], [(4, 1)]);
    assert_eq!(program.detach(AT), Err(Errno::EINVAL));
}

#[test]
fn the_first_page_need_not_be_there() {
    let mut program = Program::new();
    program.attach(AT, 0).unwrap();
    program.map(AT - PAGE, 3);
    assert_eq!(program.detach(AT), Ok(0));
    program.space.inspect(|mm| assert_eq!(mm.map_count(), 1));
    assert_eq!(program.detach(AT), Err(Errno::EINVAL));
}

#[test]
fn sealed_pieces_stay_and_are_no_error() {
    let mut program = Program::new();
    program.attach(AT, 0).unwrap();
    program.space.mseal(AT + PAGE, PAGE, 0, &mut NoKernel).unwrap();
    assert_eq!(program.detach(AT), Ok(0));
    assert_eq!(program.ranges(), [(1, 1)]);
    assert_eq!(program.detach(AT), Ok(0));
    assert_eq!(program.ranges(), [(1, 1)]);
}

#[test]
fn nothing_is_detached_at_the_ends_of_the_numbers() {
    let program = Program::new();
    for addr in [0, PAGE, u64::MAX - PAGE + 1, 1 << 63, (1 << 47) - PAGE] {
        assert_eq!(program.detach(addr), Err(Errno::EINVAL), "{addr:x}");
    }
}
