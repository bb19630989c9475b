//! Linux' calls and page faults, behind a lock.

use core::fmt;

use kvma::linux::{
    Access, Fault, FaultAction, File, Kernel, Layout, LinuxVma, Mm, Mmap, OpenFile, WithErrno,
};
use kvma::{AddrSpace, Errno, FixedPool, VmaNode};

use crate::kernel::Tables;

type Pool = FixedPool<VmaNode<LinuxVma<Inode>>, 4096>;
type Space = AddrSpace<Mm<Inode, &'static Pool>>;

static POOL: Pool = Pool::new();

/// A file, by its number.
#[derive(Clone, PartialEq)]
pub struct Inode(u64);

impl File for Inode {
    fn id(&self) -> u64 {
        self.0
    }

    fn device(&self) -> (u32, u32) {
        (0, 1)
    }

    fn inode(&self) -> u64 {
        self.0
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("file")
    }
}

fn result(result: Result<u64, Errno>) -> i64 {
    match result {
        Ok(value) => value as i64,
        Err(errno) => -i64::from(errno.0),
    }
}

fn tables() -> impl Kernel<Inode> {
    WithErrno(Tables)
}

#[unsafe(no_mangle)]
pub fn new_space(stack_limit: u64) -> Option<Space> {
    Mm::new(Layout::x86_64(stack_limit), &POOL).map(AddrSpace::new).ok()
}

#[unsafe(no_mangle)]
pub fn end_space(space: &Space, stack_limit: u64) {
    let _ = space.clear(Layout::x86_64(stack_limit), &mut tables());
}

#[unsafe(no_mangle)]
pub fn fork(space: &Space) -> Option<Space> {
    space.fork(&mut tables()).map(AddrSpace::new).ok()
}

#[unsafe(no_mangle)]
pub fn mmap(space: &Space, args: [u64; 5], file: Option<OpenFile<Inode>>) -> i64 {
    let [addr, len, prot, flags, offset] = args;
    result(space.mmap(Mmap { addr, len, prot, flags, offset, file }, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn munmap(space: &Space, addr: u64, len: u64) -> i64 {
    result(space.munmap(addr, len, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn mprotect(space: &Space, addr: u64, len: u64, prot: u64) -> i64 {
    result(space.mprotect(addr, len, prot, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn mremap(space: &Space, args: [u64; 5]) -> i64 {
    let [addr, old_len, new_len, flags, new_addr] = args;
    result(space.mremap(addr, old_len, new_len, flags, new_addr, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn madvise(space: &Space, addr: u64, len: u64, advice: u64) -> i64 {
    result(space.madvise(addr, len, advice, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn mlock(space: &Space, addr: u64, len: u64) -> i64 {
    result(space.mlock(addr, len, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn munlock(space: &Space, addr: u64, len: u64) -> i64 {
    result(space.munlock(addr, len, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn msync(space: &Space, addr: u64, len: u64, flags: u64) -> i64 {
    result(space.msync(addr, len, flags, &mut tables()))
}

#[unsafe(no_mangle)]
pub fn brk(space: &Space, brk: u64) -> u64 {
    space.brk(brk, &mut tables())
}

#[unsafe(no_mangle)]
pub fn fault(space: &Space, addr: u64, access: Access) -> FaultAction {
    space.fault(&Fault::new(addr, access), &mut tables())
}
