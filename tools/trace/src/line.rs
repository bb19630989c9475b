//! The lines of a trace.

use core::fmt;

use kvma::linux::Target;

use crate::backing::Backing;
use crate::snapshot::Snapshot;

/// One line; for a `maps` line, its whole block.
#[derive(Debug, Clone, Copy)]
pub enum Line<'a> {
    /// An empty line.
    Blank,
    /// `# …`
    Comment,
    /// `exec`: a new program image; its `start_brk` and first `maps` follow.
    Exec,
    /// `start_brk ADDR`
    StartBrk(u64),
    /// `limit WHICH N`: bytes, `u64::MAX` for unlimited.
    Limit(Limit, u64),
    /// `privileged 0|1`
    Privileged(Privilege),
    /// `fd N ACCESS KIND`
    Fd(u32, Descriptor),
    /// `maps`: the initial state right after `exec`, later an answer.
    Maps(Snapshot<'a>),
    /// `stack ADDR`: page faults have grown the stack down to there.
    Stack(u64),
    /// `child`, `parent`: the lines that follow are about that process of the last fork.
    Side(Side),
    /// A system call and its answer.
    Call(Call<'a>, Answer),
}

/// One of the two processes after a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that called fork.
    Parent,
    /// The new one.
    Child,
}

/// The resource that a `limit` line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `RLIMIT_AS`
    AddressSpace,
    /// `RLIMIT_DATA`
    Data,
    /// `RLIMIT_MEMLOCK`
    MemLock,
    /// `RLIMIT_STACK`
    Stack,
}

/// The right to exceed `RLIMIT_MEMLOCK` and to map the lowest addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// The process does not have it.
    User,
    /// The process has it.
    Privileged,
}

/// The accesses that a file descriptor allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `r`
    Read,
    /// `w`
    Write,
    /// `rw`
    ReadWrite,
}

/// The kind of file that a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `reg`: a regular file.
    Regular,
    /// `dir`: a directory.
    Directory,
    /// `memfd`: a file in memory.
    Memory,
    /// `other`: a device or the like.
    Other,
}

/// A file descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The accesses that it allows.
    pub access: Access,
    /// The kind of file that it stands for.
    pub kind: FileKind,
}

/// A system call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // Fields as in the manual page of each call.
pub enum Call<'a> {
    Mmap {
        addr: u64,
        len: u64,
        prot: u64,
        flags: u64,
        offset: u64,
        fd: Option<u32>,
        backing: Option<Backing<'a>>,
    },
    Shmat {
        id: u64,
        addr: u64,
        flags: u64,
        /// Bytes of the segment, or 0 if there is none.
        size: u64,
        backing: Option<Backing<'a>>,
    },
    Shmdt {
        addr: u64,
    },
    Munmap {
        addr: u64,
        len: u64,
    },
    Mprotect {
        addr: u64,
        len: u64,
        prot: u64,
    },
    Brk {
        addr: u64,
    },
    Mremap {
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new: u64,
    },
    Madvise {
        addr: u64,
        len: u64,
        advice: u64,
    },
    Mlock {
        addr: u64,
        len: u64,
    },
    Mlock2 {
        addr: u64,
        len: u64,
        flags: u64,
    },
    Munlock {
        addr: u64,
        len: u64,
    },
    Mlockall {
        flags: u64,
    },
    Munlockall,
    Msync {
        addr: u64,
        len: u64,
        flags: u64,
    },
    Mseal {
        addr: u64,
        len: u64,
        flags: u64,
    },
    Mincore {
        addr: u64,
        len: u64,
    },
    ProcessMadvise {
        target: Target,
        advice: u64,
        flags: u64,
        ranges: Ranges<'a>,
    },
    PkeyMprotect {
        addr: u64,
        len: u64,
        prot: u64,
        key: u64,
    },
    PkeyAlloc {
        flags: u64,
        rights: u64,
    },
    PkeyFree {
        key: u64,
    },
    /// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`
    Name {
        addr: u64,
        len: u64,
        name: Option<Backing<'a>>,
    },
    /// Answered with 0.
    Fork,
    /// Answered with 0. `image` lists what the loader maps of the program's file.
    Execve {
        start_brk: u64,
        image: Snapshot<'a>,
    },
    /// Not a call but one instruction of the program. Answered with 0 if the VMA allows it, or
    /// else with the code of the signal.
    Touch {
        addr: u64,
        access: Touch,
    },
}

/// An instruction's use of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// `r`
    Read,
    /// `w`
    Write,
    /// `x`
    Execute,
}

/// The ranges of a vector of `struct iovec`, borrowed from the trace: `ADDR LEN ADDR LEN …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges<'a> {
    pub(crate) text: &'a str,
}

impl<'a> Ranges<'a> {
    /// Iterates over the ranges: address and length in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + Clone + 'a {
        // The parser has checked the text.
        let mut numbers = self.text.split(' ').map_while(|word| u64::from_str_radix(word, 16).ok());
        core::iter::from_fn(move || Some((numbers.next()?, numbers.next()?)))
    }
}

/// The kernel's answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `?`: taken out.
    Unknown,
    /// A value, hexadecimal.
    Value(u64),
    /// `-ERRNO`, decimal; kept as the positive number.
    Error(i32),
}

impl From<Result<u64, kvma::Errno>> for Answer {
    fn from(result: Result<u64, kvma::Errno>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(errno) => Self::Error(errno.0),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("?"),
            Self::Value(value) => write!(f, "{value:x}"),
            Self::Error(errno) => write!(f, "-{errno}"),
        }
    }
}
