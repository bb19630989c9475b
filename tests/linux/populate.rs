//! The Linux layer where pages cannot be brought in: guards, and what lies beyond the end of a
//! file. The answers and the flags are those of Linux 6.18.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{File, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, PageOp, Rights, VmFlags};
use kvma::{BoxAlloc, Errno, Hooks, Piece, VmaNode};

/// A file, of `PAGES_IN_FILE` pages.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Short;

impl File for Short {
    fn id(&self) -> u64 {
        1
    }

    fn device(&self) -> (u32, u32) {
        (8, 1)
    }

    fn inode(&self) -> u64 {
        1
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/short")
    }
}

/// Page tables as far as guards go.
#[derive(Default)]
struct TestKernel {
    guards: BTreeSet<u64>,
}

impl Hooks<LinuxVma<Short>> for TestKernel {}

impl Kernel<Short> for TestKernel {
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, LinuxVma<Short>>) -> Result<(), Errno> {
        let pages = (0..piece.range().pages()).map(|page| piece.range().start() + page * PAGE);
        match action {
            PageOp::GuardInstall => self.guards.extend(pages),
            PageOp::GuardRemove => pages.for_each(|page| _ = self.guards.remove(&page)),
            PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite => {
                let file = piece.data().object().is_some();
                for (index, page) in pages.enumerate() {
                    let beyond = file && index as u64 >= PAGES_IN_FILE;
                    if beyond || self.guards.contains(&page) {
                        return Err(Errno::EFAULT);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

const PAGE: u64 = 4096;
const PAGES_IN_FILE: u64 = 3;
const AT: u64 = 0x5000_0000_0000;
const RW: u64 = PROT_READ | PROT_WRITE;
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

type Space = Mm<Short, Arc<BoxAlloc<VmaNode<LinuxVma<Short>>>>>;

fn space() -> Space {
    Mm::new(Layout::x86_64(8 << 20), Default::default()).unwrap()
}

fn anonymous(pages: u64) -> Mmap<Short> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    Mmap { addr: AT, len: pages * PAGE, prot: RW, flags, offset: 0, file: None }
}

fn short(flags: u64) -> Mmap<Short> {
    let file = Some(OpenFile::new(Short, Rights::READ | Rights::WRITE));
    Mmap { addr: AT, len: 6 * PAGE, prot: RW, flags: flags | MAP_FIXED, offset: 0, file }
}

fn flags(mm: &Space) -> String {
    mm.iter().map(|vma| VmFlags::of(&vma).to_string()).collect()
}

#[test]
fn a_guard_is_a_page_that_cannot_come_in() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let mut call = mm.update(&mut kernel);
    let all = 8 * PAGE;
    mm.mmap(anonymous(8), &mut call).unwrap();
    assert_eq!(mm.madvise(AT + 2 * PAGE, 2 * PAGE, GUARD_INSTALL, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu ac ");
    assert_eq!(mm.madvise(AT, all, POPULATE_READ, &mut call), Err(Errno::EFAULT));
    assert_eq!(mm.madvise(AT, all, POPULATE_WRITE, &mut call), Err(Errno::EFAULT));
    // Locked all the same, up to the guard and behind.
    assert_eq!(mm.mlock(AT, all, &mut call), Err(Errno::ENOMEM));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo ac ");
    assert_eq!(mm.madvise(AT, PAGE, GUARD_INSTALL, &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.madvise(AT, PAGE, GUARD_REMOVE, &mut call), Ok(0));
    assert_eq!(mm.munlock(AT, all, &mut call), Ok(0));
    // On fault nothing comes in now.
    assert_eq!(mm.mlock2(AT, all, MLOCK_ONFAULT, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo lf ac ");
    assert_eq!(mm.munlock(AT, all, &mut call), Ok(0));
    assert_eq!(mm.mlockall(MCL_CURRENT, &mut call), Ok(0));
    assert_eq!(mm.munlockall(&mut call), 0);
    // Guards may go, the VMA may have some for good.
    assert_eq!(mm.madvise(AT, all, GUARD_REMOVE, &mut call), Ok(0));
    assert_eq!(mm.mlock(AT, all, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo ac ");
}

#[test]
fn beyond_the_end_of_a_file_nothing_comes_in() {
    for (kind, expected) in
        [(MAP_SHARED, "rd wr sh mr mw me ms lo "), (MAP_PRIVATE, "rd wr mr mw me lo ac ")]
    {
        let (mut mm, mut kernel) = (space(), TestKernel::default());
        let mut call = mm.update(&mut kernel);
        assert_eq!(mm.mmap(short(kind | MAP_POPULATE), &mut call), Ok(AT));
        assert_eq!(mm.madvise(AT, 6 * PAGE, POPULATE_READ, &mut call), Err(Errno::EFAULT));
        assert_eq!(mm.madvise(AT, 6 * PAGE, POPULATE_WRITE, &mut call), Err(Errno::EFAULT));
        assert_eq!(mm.madvise(AT, 3 * PAGE, POPULATE_READ, &mut call), Ok(0));
        assert_eq!(mm.mlock(AT, 6 * PAGE, &mut call), Err(Errno::ENOMEM));
        assert_eq!(flags(&mm), expected);
        assert_eq!(mm.mmap(short(kind | MAP_LOCKED), &mut call), Ok(AT));
        assert_eq!(flags(&mm), expected);
    }
}

#[test]
fn what_failed_half_way_has_been_written() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let mut call = mm.update(&mut kernel);
    mm.mmap(anonymous(2), &mut call).unwrap();
    call.hooks().guards.insert(AT + PAGE);
    assert_eq!(mm.mlock(AT, 2 * PAGE, &mut call), Err(Errno::ENOMEM));
    // Its charge of memory therefore stays when it can be written no more.
    assert_eq!(mm.mprotect(AT, 2 * PAGE, PROT_READ, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd mr mw me lo ac ");
}
