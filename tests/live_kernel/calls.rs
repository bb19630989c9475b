//! The calls: their numbers, and how a trace shows them.

use std::fmt::{self, Write};

pub use kvma::linux::abi::*;
pub use kvma_trace::Limit;

/// A system call that changes an address space, with its number on x86-64. Named as in the manual pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Sys {
    Mmap = 9,
    Mprotect = 10,
    Munmap = 11,
    Brk = 12,
    Mremap = 25,
    Msync = 26,
    Madvise = 28,
    Mlock = 149,
    Munlock = 150,
    Mlockall = 151,
    Munlockall = 152,
    Mlock2 = 325,
    Mseal = 462,
}

impl Sys {
    /// All of them.
    pub const ALL: [Self; 13] = {
        use Sys::*;
        [
            Mmap, Mprotect, Munmap, Brk, Mremap, Msync, Madvise, Mlock, Munlock, Mlockall, Munlockall,
            Mlock2, Mseal,
        ]
    };

    /// The number to put into `rax`.
    pub const fn number(self) -> u64 {
        self as u64
    }
}

/// A call and its arguments in the order of the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub sys: Sys,
    pub args: [u64; 6],
}

impl Call {
    /// A call; arguments that are not given are 0.
    pub fn new(sys: Sys, given: &[u64]) -> Self {
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(given);
        Self { sys, args }
    }

    /// The call as a trace has it.
    pub fn traced(&self) -> kvma_trace::Call<'static> {
        kvma_trace::Call::from_system_call(self.sys.number(), self.args)
            .expect("a trace has all calls in `Sys`")
    }

    /// The descriptor that the kernel looks at, if it looks at one.
    pub fn fd(&self) -> Option<u32> {
        match self.traced() {
            kvma_trace::Call::Mmap { fd, .. } => fd,
            _ => None,
        }
    }
}

/// As a trace shows it, left of the backing and the answer.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.traced().fmt(f)
    }
}

/// One step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Call(Call),
    /// Sets the soft limit: an entry of the tracee's table of limits.
    Limit(usize),
    /// Gives up all privileges.
    Drop,
}

/// The `limit` line of a trace.
pub fn limit_line(out: &mut String, limit: Limit, bytes: u64) {
    // Writing to a string does not fail.
    let _ = match bytes {
        u64::MAX => writeln!(out, "limit {limit} unlimited"),
        _ => writeln!(out, "limit {limit} {bytes:x}"),
    };
}

/// The number of a limit for setrlimit(2).
pub const fn resource(limit: Limit) -> u32 {
    match limit {
        Limit::AddressSpace => libc::RLIMIT_AS,
        Limit::Data => libc::RLIMIT_DATA,
        Limit::MemLock => libc::RLIMIT_MEMLOCK,
        Limit::Stack => libc::RLIMIT_STACK,
    }
}

pub const MADV_POPULATE_READ: u32 = 22;
pub const MADV_POPULATE_WRITE: u32 = 23;
pub const MADV_COLLAPSE: u32 = 25;
pub const MADV_GUARD_INSTALL: u32 = 102;
