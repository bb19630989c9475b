//! System calls: from their registers to a line of a trace.

use core::fmt;

use kvma::linux::Target;

use crate::line::{Call, Limit, Touch};

/// Numbers of the calls on x86-64.
mod number {
    pub const MMAP: u64 = 9;
    pub const MPROTECT: u64 = 10;
    pub const MUNMAP: u64 = 11;
    pub const BRK: u64 = 12;
    pub const MREMAP: u64 = 25;
    pub const MSYNC: u64 = 26;
    pub const MINCORE: u64 = 27;
    pub const MADVISE: u64 = 28;
    pub const SHMAT: u64 = 30;
    pub const SHMDT: u64 = 67;
    pub const MLOCK: u64 = 149;
    pub const MUNLOCK: u64 = 150;
    pub const MLOCKALL: u64 = 151;
    pub const MUNLOCKALL: u64 = 152;
    pub const MLOCK2: u64 = 325;
    pub const PKEY_MPROTECT: u64 = 329;
    pub const PKEY_ALLOC: u64 = 330;
    pub const PKEY_FREE: u64 = 331;
    pub const MSEAL: u64 = 462;
}

/// The mapping has no file.
const MAP_ANONYMOUS: u64 = 0x20;
/// The bits that say private or shared.
const MAP_TYPE: u64 = 0xf;
const MAP_PRIVATE: u64 = 2;
const MAP_HUGETLB: u64 = 0x4_0000;

impl Call<'_> {
    /// Returns the call with this number and these arguments on x86-64, if traces have it. Its
    /// backing and the size of its segment are unknown.
    pub fn from_system_call(number: u64, args: [u64; 6]) -> Option<Self> {
        let [a, b, c, d, e, f] = args;
        Some(match number {
            number::MMAP => {
                let fd = (d & MAP_ANONYMOUS == 0).then_some((e & u64::from(u32::MAX)) as u32);
                Call::Mmap { addr: a, len: b, prot: c, flags: d, offset: f, fd, backing: None }
            }
            number::MPROTECT => Call::Mprotect { addr: a, len: b, prot: c },
            number::MUNMAP => Call::Munmap { addr: a, len: b },
            number::BRK => Call::Brk { addr: a },
            number::MREMAP => Call::Mremap { old: a, old_len: b, new_len: c, flags: d, new: e },
            number::MSYNC => Call::Msync { addr: a, len: b, flags: c },
            number::MADVISE => Call::Madvise { addr: a, len: b, advice: c },
            number::SHMAT => Call::Shmat { id: a, addr: b, flags: c, size: 0, backing: None },
            number::SHMDT => Call::Shmdt { addr: a },
            number::MLOCK => Call::Mlock { addr: a, len: b },
            number::MUNLOCK => Call::Munlock { addr: a, len: b },
            number::MLOCKALL => Call::Mlockall { flags: a },
            number::MUNLOCKALL => Call::Munlockall,
            number::MLOCK2 => Call::Mlock2 { addr: a, len: b, flags: c },
            number::MINCORE => Call::Mincore { addr: a, len: b },
            number::PKEY_MPROTECT => Call::PkeyMprotect { addr: a, len: b, prot: c, key: d },
            number::PKEY_ALLOC => Call::PkeyAlloc { flags: a, rights: b },
            number::PKEY_FREE => Call::PkeyFree { key: a },
            number::MSEAL => Call::Mseal { addr: a, len: b, flags: c },
            _ => return None,
        })
    }

    /// Returns true if a trace names the object that the call has mapped: after shmat, and mmap of
    /// anything but private anonymous memory.
    pub fn shows_backing(&self) -> bool {
        let private = MAP_ANONYMOUS | MAP_PRIVATE;
        let plain = MAP_ANONYMOUS | MAP_TYPE | MAP_HUGETLB;
        match *self {
            Call::Mmap { flags, .. } => flags & plain != private,
            Call::Shmat { .. } => true,
            _ => false,
        }
    }
}

/// Prints the call as in a trace, left of ` = `.
impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Call::Mmap { addr, len, prot, flags, offset, fd, backing } => {
                write!(f, "mmap {addr:x} {len:x} {prot:x} {flags:x} {offset:x}")?;
                if let Some(fd) = fd {
                    write!(f, " fd {fd:x}")?;
                }
                backing.map_or(Ok(()), |backing| write!(f, " {backing:?}"))
            }
            Call::Shmat { id, addr, flags, size, backing } => {
                write!(f, "shmat {id:x} {addr:x} {flags:x} {size:x}")?;
                backing.map_or(Ok(()), |backing| write!(f, " {backing:?}"))
            }
            Call::Shmdt { addr } => write!(f, "shmdt {addr:x}"),
            Call::Munmap { addr, len } => write!(f, "munmap {addr:x} {len:x}"),
            Call::Mprotect { addr, len, prot } => write!(f, "mprotect {addr:x} {len:x} {prot:x}"),
            Call::Brk { addr } => write!(f, "brk {addr:x}"),
            Call::Mremap { old, old_len, new_len, flags, new } => {
                write!(f, "mremap {old:x} {old_len:x} {new_len:x} {flags:x} {new:x}")
            }
            Call::Madvise { addr, len, advice } => write!(f, "madvise {addr:x} {len:x} {advice:x}"),
            Call::Mlock { addr, len } => write!(f, "mlock {addr:x} {len:x}"),
            Call::Mlock2 { addr, len, flags } => write!(f, "mlock2 {addr:x} {len:x} {flags:x}"),
            Call::Munlock { addr, len } => write!(f, "munlock {addr:x} {len:x}"),
            Call::Mlockall { flags } => write!(f, "mlockall {flags:x}"),
            Call::Munlockall => f.write_str("munlockall"),
            Call::Msync { addr, len, flags } => write!(f, "msync {addr:x} {len:x} {flags:x}"),
            Call::Mseal { addr, len, flags } => write!(f, "mseal {addr:x} {len:x} {flags:x}"),
            Call::Mincore { addr, len } => write!(f, "mincore {addr:x} {len:x}"),
            Call::ProcessMadvise { target, advice, flags, ranges } => {
                let target = match target {
                    Target::Own => "own",
                    Target::Other => "other",
                };
                write!(f, "process_madvise {target} {advice:x} {flags:x}")?;
                ranges.iter().try_for_each(|(addr, len)| write!(f, " {addr:x} {len:x}"))
            }
            Call::PkeyMprotect { addr, len, prot, key } => {
                write!(f, "pkey_mprotect {addr:x} {len:x} {prot:x} {key:x}")
            }
            Call::PkeyAlloc { flags, rights } => write!(f, "pkey_alloc {flags:x} {rights:x}"),
            Call::PkeyFree { key } => write!(f, "pkey_free {key:x}"),
            Call::Name { addr, len, name } => {
                write!(f, "name {addr:x} {len:x}")?;
                name.map_or(Ok(()), |name| write!(f, " {name:?}"))
            }
            Call::Fork => f.write_str("fork"),
            Call::Execve { start_brk, image } => {
                write!(f, "execve {start_brk:x} {}", image.count().unwrap_or(0))
            }
            Call::Touch { addr, access } => write!(f, "touch {access} {addr:x}"),
        }
    }
}

/// Prints the access as in a `touch` line.
impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "r",
            Self::Write => "w",
            Self::Execute => "x",
        })
    }
}

/// Prints the resource as in a `limit` line.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AddressSpace => "as",
            Self::Data => "data",
            Self::MemLock => "memlock",
            Self::Stack => "stack",
        })
    }
}
