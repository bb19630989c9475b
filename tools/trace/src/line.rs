//! What a line of a trace can say.

use core::fmt;

use kvma::linux::{Alignment, File, Target};

use crate::snapshot::Snapshot;

/// One line (a `maps` line together with the lines of its block).
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
    /// `maps`: right after `exec` the initial state, later an answer.
    Maps(Snapshot<'a>),
    /// `stack ADDR`: page faults have grown the stack down to there.
    Stack(u64),
    /// `child`, `parent`: the lines that follow are about that one of the two that the last fork
    /// has made.
    Side(Side),
    /// A system call and its answer.
    Call(Call<'a>, Answer),
}

/// One of the two that a fork makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who has called fork.
    Parent,
    /// Who was made.
    Child,
}

/// Which resource a `limit` line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// RLIMIT_AS
    AddressSpace,
    /// RLIMIT_DATA
    Data,
    /// RLIMIT_MEMLOCK
    MemLock,
    /// RLIMIT_STACK
    Stack,
}

/// Whether the process may exceed MEMLOCK and map the lowest addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It may not.
    User,
    /// It may.
    Privileged,
}

/// What a file descriptor allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `r`
    Read,
    /// `w`
    Write,
    /// `rw`
    ReadWrite,
}

/// What a file descriptor stands for.
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
    /// What it allows.
    pub access: Access,
    /// What it stands for.
    pub kind: FileKind,
}

/// What a mapping shows: `MAJOR:MINOR INODE NAME`, borrowed from the trace.
///
/// Two are equal if device and inode are: a file that was renamed between two calls is one object.
#[derive(Clone, Copy)]
pub struct Backing<'a> {
    pub(crate) text: &'a str,
}

impl<'a> Backing<'a> {
    fn fields(&self) -> ((u32, u32), u64, &'a str) {
        // Checked when it was made.
        kvma::linux::maps::object(self.text).unwrap_or(((0, 0), 0, ""))
    }

    /// From `MAJOR:MINOR INODE NAME`.
    pub fn parse(text: &'a str) -> Option<Self> {
        kvma::linux::maps::object(text).ok().map(|_| Self { text })
    }

    /// The path, or a name in brackets.
    pub fn name(&self) -> &'a str {
        self.fields().2
    }
}

impl PartialEq for Backing<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (device, inode, name) = self.fields();
        let (other_device, other_inode, other_name) = other.fields();
        // Without an object the name is all there is.
        device == other_device && inode == other_inode && (inode != 0 || name == other_name)
    }
}

impl Eq for Backing<'_> {}

impl File for Backing<'_> {
    fn id(&self) -> u64 {
        let ((major, minor), inode, _) = self.fields();
        // Objects that this mixes up are still told apart by `==`.
        inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(major) << 32 ^ u64::from(minor)
    }

    fn device(&self) -> (u32, u32) {
        self.fields().0
    }

    fn inode(&self) -> u64 {
        self.fields().1
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        // maps puts the brackets around a name of anonymous memory.
        let name = self.name();
        let bare = name.strip_prefix("[anon:").and_then(|name| name.strip_suffix(']'));
        out.write_str(bare.unwrap_or(name))
    }

    fn alignment(&self) -> Alignment {
        // Traces name one file system that places mappings for huge pages.
        if self.fields().0 == EXT4 { Alignment::Huge } else { Alignment::Page }
    }
}

/// The device number of the ext4 file system in traces.
pub(crate) const EXT4: (u32, u32) = (0xfe, 0);

impl fmt::Debug for Backing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
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
    /// No call, but one instruction of the program's. Answered with 0 if the VMA allows it, else
    /// with the code of the signal.
    Touch {
        addr: u64,
        access: Touch,
    },
}

/// How an instruction uses memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// `r`
    Read,
    /// `w`
    Write,
    /// `x`
    Execute,
}

/// The ranges of a vector of `struct iovec`, borrowed from the trace: `ADDR LEN ADDR LEN …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges<'a> {
    pub(crate) text: &'a str,
}

impl<'a> Ranges<'a> {
    /// Address and length of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + Clone + 'a {
        // Checked when it was made.
        let mut numbers = self.text.split(' ').map_while(|word| u64::from_str_radix(word, 16).ok());
        core::iter::from_fn(move || Some((numbers.next()?, numbers.next()?)))
    }
}

/// What the kernel answered to a call.
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
