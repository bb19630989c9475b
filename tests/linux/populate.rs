//! Pages that cannot be populated: guards, and what lies beyond the end of a file. The answers and
//! the flags are those of Linux 6.18.

use std::sync::Arc;

use kvma::linux::abi::*;
use kvma::linux::{Layout, LinuxVma, Mm, Mmap, VmFlags};
use kvma::{BoxAlloc, Errno, VmaNode};
use kvma_test_support::{Inode, TestKernel};

use super::{ANON, AT, PAGE, RW};

/// A file of three pages.
const SHORT: Inode = Inode::new(1).of_pages(3);
const POPULATE_READ: u64 = 22;
const POPULATE_WRITE: u64 = 23;
const GUARD_INSTALL: u64 = 102;
const GUARD_REMOVE: u64 = 103;

type Space = Mm<Inode, Arc<BoxAlloc<VmaNode<LinuxVma<Inode>>>>>;

fn space() -> Space {
    Mm::new(Layout::x86_64(8 << 20), Default::default()).unwrap()
}

fn anonymous(pages: u64) -> Mmap<Inode> {
    let flags = ANON | MAP_FIXED;
    Mmap { addr: AT, len: pages * PAGE, prot: RW, flags, offset: 0, file: None }
}

fn short(flags: u64) -> Mmap<Inode> {
    let (flags, file) = (flags | MAP_FIXED, Some(SHORT.open()));
    Mmap { addr: AT, len: 6 * PAGE, prot: RW, flags, offset: 0, file }
}

fn flags(mm: &Space) -> String {
    mm.iter().map(|vma| VmFlags::of(&vma).to_string()).collect()
}

#[test]
fn a_guard_cannot_be_populated() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let mut call = mm.update(&mut kernel);
    let all = 8 * PAGE;
    mm.mmap(anonymous(8), &mut call).unwrap();
    assert_eq!(mm.madvise(AT + 2 * PAGE, 2 * PAGE, GUARD_INSTALL, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu ac ");
    assert_eq!(mm.madvise(AT, all, POPULATE_READ, &mut call), Err(Errno::EFAULT));
    assert_eq!(mm.madvise(AT, all, POPULATE_WRITE, &mut call), Err(Errno::EFAULT));
    // The VMA is locked all the same, up to the guard and behind it.
    assert_eq!(mm.mlock(AT, all, &mut call), Err(Errno::ENOMEM));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo ac ");
    assert_eq!(mm.madvise(AT, PAGE, GUARD_INSTALL, &mut call), Err(Errno::EINVAL));
    assert_eq!(mm.madvise(AT, PAGE, GUARD_REMOVE, &mut call), Ok(0));
    assert_eq!(mm.munlock(AT, all, &mut call), Ok(0));
    // With ONFAULT, nothing is populated now.
    assert_eq!(mm.mlock2(AT, all, MLOCK_ONFAULT, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo lf ac ");
    assert_eq!(mm.munlock(AT, all, &mut call), Ok(0));
    assert_eq!(mm.mlockall(MCL_CURRENT, &mut call), Ok(0));
    assert_eq!(mm.munlockall(&mut call), 0);
    // The guards may go; that the VMA may have some stays.
    assert_eq!(mm.madvise(AT, all, GUARD_REMOVE, &mut call), Ok(0));
    assert_eq!(mm.mlock(AT, all, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd wr mr mw me gu lo ac ");
}

#[test]
fn nothing_is_populated_beyond_the_end_of_a_file() {
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
fn memory_that_was_populated_in_part_counts_as_written() {
    let (mut mm, mut kernel) = (space(), TestKernel::default());
    let mut call = mm.update(&mut kernel);
    mm.mmap(anonymous(2), &mut call).unwrap();
    call.hooks().guards.install(AT + PAGE, AT + 2 * PAGE);
    assert_eq!(mm.mlock(AT, 2 * PAGE, &mut call), Err(Errno::ENOMEM));
    // So its charge stays when it can no longer be written.
    assert_eq!(mm.mprotect(AT, 2 * PAGE, PROT_READ, &mut call), Ok(0));
    assert_eq!(flags(&mm), "rd mr mw me lo ac ");
}
