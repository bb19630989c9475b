//! The calls: their numbers, and how a trace shows them.

use std::fmt::{self, Write};

pub use kvma::linux::abi::*;
pub use kvma_trace::Limit;

/// A system call that changes an address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Named as in the manual pages.
pub enum Sys {
    Mmap,
    Munmap,
    Mprotect,
    Brk,
    Mremap,
    Madvise,
    Mlock,
    Mlock2,
    Munlock,
    Mlockall,
    Munlockall,
    Msync,
    Mseal,
}

impl Sys {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Mmap,
        Self::Munmap,
        Self::Mprotect,
        Self::Brk,
        Self::Mremap,
        Self::Madvise,
        Self::Mlock,
        Self::Mlock2,
        Self::Munlock,
        Self::Mlockall,
        Self::Munlockall,
        Self::Msync,
        Self::Mseal,
    ];

    /// Its number (x86-64), name, and how many arguments a trace shows.
    const fn row(self) -> (u64, &'static str, usize) {
        match self {
            Self::Mmap => (9, "mmap", 6),
            Self::Munmap => (11, "munmap", 2),
            Self::Mprotect => (10, "mprotect", 3),
            Self::Brk => (12, "brk", 1),
            Self::Mremap => (25, "mremap", 5),
            Self::Madvise => (28, "madvise", 3),
            Self::Mlock => (149, "mlock", 2),
            Self::Mlock2 => (325, "mlock2", 3),
            Self::Munlock => (150, "munlock", 2),
            Self::Mlockall => (151, "mlockall", 1),
            Self::Munlockall => (152, "munlockall", 0),
            Self::Msync => (26, "msync", 3),
            Self::Mseal => (462, "mseal", 3),
        }
    }

    /// The number to put into `rax`.
    pub const fn number(self) -> u64 {
        self.row().0
    }

    /// As in the manual pages.
    pub const fn name(self) -> &'static str {
        self.row().1
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

    /// The descriptor that the kernel looks at, if it looks at one.
    pub fn fd(&self) -> Option<u32> {
        (self.sys == Sys::Mmap && self.args[3] & MAP_ANONYMOUS == 0).then_some(self.args[4] as u32)
    }

    /// Whether a trace names the object that a successful call has mapped.
    pub fn shows_backing(&self) -> bool {
        let private_anonymous = self.args[3] & (MAP_ANONYMOUS | MAP_TYPE) == MAP_ANONYMOUS | MAP_PRIVATE;
        self.sys == Sys::Mmap && !private_anonymous
    }
}

/// As a trace shows it, left of the backing and the answer.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, count) = self.sys.row();
        f.write_str(name)?;
        let order: &[usize] = if self.sys == Sys::Mmap { &[0, 1, 2, 3, 5] } else { &[0, 1, 2, 3, 4] };
        for &index in order.iter().take(count) {
            write!(f, " {:x}", self.args[index])?;
        }
        match self.fd() {
            Some(fd) => write!(f, " fd {fd:x}"),
            None => Ok(()),
        }
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
    let name = match limit {
        Limit::AddressSpace => "as",
        Limit::Data => "data",
        Limit::MemLock => "memlock",
        Limit::Stack => "stack",
    };
    let _ = match bytes {
        u64::MAX => writeln!(out, "limit {name} unlimited"),
        _ => writeln!(out, "limit {name} {bytes:x}"),
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
