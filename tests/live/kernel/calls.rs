//! The calls, their numbers, and how a trace shows them.

use std::fmt::{self, Write};

pub use kvma::linux::Target;
pub use kvma::linux::abi::*;
pub use kvma_trace::{Limit, Touch};

use super::image;

/// A system call that changes an address space, with its number on x86-64. Names are those of the
/// manual pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Sys {
    Mmap = 9,
    Mprotect = 10,
    Munmap = 11,
    Brk = 12,
    Mremap = 25,
    Msync = 26,
    Mincore = 27,
    Madvise = 28,
    Mlock = 149,
    Munlock = 150,
    Mlockall = 151,
    Munlockall = 152,
    /// prctl(2), to name memory only.
    Name = 157,
    Mlock2 = 325,
    PkeyMprotect = 329,
    PkeyAlloc = 330,
    PkeyFree = 331,
    Mseal = 462,
}

impl Sys {
    /// All calls.
    pub const ALL: [Self; 18] = {
        use Sys::*;
        [
            Mmap,
            Mprotect,
            Munmap,
            Brk,
            Mremap,
            Msync,
            Mincore,
            Madvise,
            Mlock,
            Munlock,
            Mlockall,
            Munlockall,
            Name,
            Mlock2,
            PkeyMprotect,
            PkeyAlloc,
            PkeyFree,
            Mseal,
        ]
    };

    /// Returns the number for `rax`.
    pub const fn number(self) -> u64 {
        self as u64
    }
}

/// A call, and its arguments in the order of the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub sys: Sys,
    pub args: [u64; 6],
}

impl Call {
    /// Makes a call. Arguments that are not given are 0.
    pub fn new(sys: Sys, given: &[u64]) -> Self {
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(given);
        Self { sys, args }
    }

    /// Returns the call as a trace has it.
    pub fn traced(&self) -> kvma_trace::Call<'static> {
        if self.sys == Sys::Name {
            let [_, _, addr, len, name, _] = self.args;
            return kvma_trace::Call::Name { addr, len, name: image::name_at(name) };
        }
        kvma_trace::Call::from_system_call(self.sys.number(), self.args)
            .expect("a trace has all calls in `Sys`")
    }

    /// Returns the descriptor at which the kernel looks, if any.
    pub fn fd(&self) -> Option<u32> {
        match self.traced() {
            kvma_trace::Call::Mmap { fd, .. } => fd,
            _ => None,
        }
    }
}

/// Writes the call as in a trace, left of the backing and the answer.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.traced().fmt(f)
    }
}

/// One step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Call(Call),
    Advise(Advise),
    /// An instruction that accesses memory.
    Touch(u64, Touch),
    /// Forks, and goes on in the child.
    Fork,
    /// Goes on in the other one of the two programs of the last fork.
    Switch,
    /// Runs the same program anew.
    Exec,
    /// Sets a soft limit, by the index in the table of limits.
    Limit(usize),
    /// Gives up all privileges.
    Drop,
}

/// process_madvise(2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advise {
    /// Whose memory is advised. `Other` is the other one of the two programs of the last fork.
    pub target: Target,
    pub advice: u64,
    pub flags: u64,
    ranges: [(u64, u64); Self::MOST],
    count: usize,
}

impl Advise {
    /// Most ranges in one call.
    pub const MOST: usize = 6;

    /// Makes a call. Ranges beyond [`MOST`](Self::MOST) are left out.
    pub fn new(target: Target, advice: u64, flags: u64, given: &[(u64, u64)]) -> Self {
        let mut ranges = [(0, 0); Self::MOST];
        let count = given.len().min(Self::MOST);
        ranges[..count].copy_from_slice(&given[..count]);
        Self { target, advice, flags, ranges, count }
    }

    /// Returns the call for another target.
    pub fn to(self, target: Target) -> Self {
        Self { target, ..self }
    }

    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges[..self.count]
    }

    /// Returns calls of madvise(2) that do the same, one for each range.
    pub fn each(&self) -> impl Iterator<Item = Call> + '_ {
        self.ranges().iter().map(|&(addr, len)| Call::new(Sys::Madvise, &[addr, len, self.advice]))
    }
}

/// Writes the call as in a trace, left of the answer.
impl fmt::Display for Advise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = match self.target {
            Target::Own => "own",
            Target::Other => "other",
        };
        write!(f, "process_madvise {target} {:x} {:x}", self.advice, self.flags)?;
        self.ranges().iter().try_for_each(|(addr, len)| write!(f, " {addr:x} {len:x}"))
    }
}

/// Writes the `limit` line of a trace.
pub fn limit_line(out: &mut String, limit: Limit, bytes: u64) {
    // Writing to a string does not fail.
    let _ = match bytes {
        u64::MAX => writeln!(out, "limit {limit} unlimited"),
        _ => writeln!(out, "limit {limit} {bytes:x}"),
    };
}

/// Returns the number of a limit for setrlimit(2).
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
/// First address behind user space.
pub const TASK: u64 = 0x7fff_ffff_f000;
/// prctl(2): a property of memory.
pub const PR_SET_VMA: u64 = 0x5356_4d41;
pub const MADV_DONTFORK: u32 = 10;
pub const MADV_COLLAPSE: u32 = 25;
pub const MADV_GUARD_INSTALL: u32 = 102;
