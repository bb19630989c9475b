//! Kinds of runs: which calls they make, and how often.

use super::calls::{Limit, Sys};

/// A kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Call(Sys),
    Limit(Limit),
    /// process_madvise(2)
    Advise,
    /// An instruction that accesses memory.
    Touch,
    Fork,
    /// Goes on in the other one of the two programs of a fork.
    Switch,
    Exec,
    /// Gives up privileges, once.
    Drop,
}

/// The character of a run.
#[derive(Debug)]
pub struct Persona {
    pub name: &'static str,
    pub weights: &'static [(Kind, u64)],
    /// Uses all files, not only one.
    pub files: bool,
    /// Uses odd flags, lengths and addresses.
    pub odd: bool,
    /// How many of 200 calls of mmap say GROWSDOWN, and how many LOCKED.
    pub grow: u64,
    pub locked: u64,
    /// How many of 200 calls of mmap ask for huge pages that need not be there. If any, addresses
    /// and lengths are mostly multiples of one.
    pub huge: u64,
    /// Populates pages. Nothing private is writable then, so that no page belongs to the program
    /// alone.
    pub populate: bool,
    /// Makes programs that can fork at any time.
    pub only_forks: bool,
    pub advice: &'static [u64],
    /// The limit under which the run starts, and the index of its value.
    pub limit: Option<(Limit, usize)>,
}

impl Persona {
    /// Returns whether programs fork.
    pub fn forks(&self) -> bool {
        self.weights.iter().any(|&(kind, _)| kind == Kind::Fork)
    }
}

use Kind::Call;
use Sys::*;

/// All advice but that which populates pages, makes huge pages or installs guards.
const ADVICE: &[u64] = &[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 24];
/// All advice but HWPOISON and SOFT_OFFLINE, which harm the machine, and GUARD_INSTALL.
const ALL_ADVICE: &[u64] =
    &[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 103];
/// Guards, and no advice that would meet them.
const GUARD_ADVICE: &[u64] =
    &[0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 24, 102, 103];

/// Guards, and advice that meets them.
const UPON_GUARDS: &[u64] =
    &[0, 3, 4, 8, 9, 10, 11, 17, 20, 21, 22, 22, 22, 23, 23, 24, 102, 102, 102, 102, 103];

const PLAIN: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 200),
    (Call(Mprotect), 140),
    (Call(Mremap), 115),
    (Call(Madvise), 105),
    (Call(Brk), 40),
    (Call(Msync), 38),
    (Call(Mincore), 12),
    (Call(PkeyMprotect), 10),
    (Call(Name), 10),
    (Kind::Advise, 12),
    (Kind::Touch, 40),
    (Kind::Fork, 2),
    (Kind::Switch, 4),
];
const LOCKING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 140),
    (Call(Mprotect), 140),
    (Call(Mremap), 115),
    (Call(Madvise), 105),
    (Call(Brk), 40),
    (Call(Msync), 38),
    (Call(Mlock), 25),
    (Call(Mlock2), 60),
    (Call(Munlock), 40),
    (Call(Mlockall), 8),
    (Call(Munlockall), 5),
    (Kind::Advise, 12),
    (Kind::Touch, 20),
    (Kind::Fork, 2),
    (Kind::Switch, 4),
];
const REMAPPING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 100),
    (Call(Mprotect), 100),
    (Call(Mremap), 400),
    (Call(Madvise), 60),
    (Call(Brk), 30),
];
const SEALING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 200),
    (Call(Mprotect), 140),
    (Call(Mremap), 130),
    (Call(Madvise), 130),
    (Call(Brk), 40),
    (Call(Msync), 30),
    (Call(Mseal), 9),
    (Call(Mincore), 8),
    (Call(PkeyMprotect), 20),
    (Call(Name), 10),
    (Kind::Advise, 20),
];
const EVERYTHING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 160),
    (Call(Mprotect), 150),
    (Call(Mremap), 120),
    (Call(Madvise), 100),
    (Call(Brk), 40),
    (Call(Msync), 38),
    (Call(Mlock), 10),
    (Call(Mlock2), 25),
    (Call(Munlock), 20),
    (Call(Mlockall), 6),
    (Call(Munlockall), 5),
    (Call(Mseal), 2),
    (Call(Mincore), 15),
    (Call(PkeyMprotect), 15),
    (Call(PkeyAlloc), 6),
    (Call(PkeyFree), 4),
    (Call(Name), 15),
    (Kind::Advise, 20),
    (Kind::Touch, 30),
    (Kind::Fork, 2),
    (Kind::Switch, 4),
];
const DROPPING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 160),
    (Call(Mprotect), 150),
    (Call(Mremap), 120),
    (Call(Madvise), 100),
    (Call(Brk), 40),
    (Call(Msync), 38),
    (Call(Mlock), 15),
    (Call(Mlock2), 30),
    (Call(Munlock), 20),
    (Call(Mlockall), 8),
    (Call(Munlockall), 5),
    (Call(Mseal), 2),
    (Kind::Limit(Limit::MemLock), 4),
    (Kind::Drop, 50),
    (Kind::Advise, 10),
    (Kind::Touch, 20),
    (Kind::Fork, 3),
    (Kind::Switch, 6),
    (Kind::Exec, 1),
];
const GROWING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 200),
    (Call(Mprotect), 140),
    (Call(Mremap), 115),
    (Call(Madvise), 105),
    (Call(Brk), 40),
    (Call(Mlock2), 10),
    (Call(Munlock), 10),
    (Call(Mlockall), 3),
    (Kind::Limit(Limit::Stack), 10),
    (Kind::Limit(Limit::MemLock), 3),
    (Kind::Touch, 400),
    (Kind::Fork, 2),
    (Kind::Switch, 4),
];
const TOUCHING: &[(Kind, u64)] = &[
    (Call(Mmap), 300),
    (Call(Munmap), 100),
    (Call(Mprotect), 140),
    (Call(Mremap), 250),
    (Call(Madvise), 60),
    (Call(Brk), 40),
    (Call(Mlock2), 10),
    (Call(Munlock), 10),
    (Kind::Touch, 500),
];
const GUARDING: &[(Kind, u64)] = &[
    (Call(Mmap), 300),
    (Call(Munmap), 80),
    (Call(Mprotect), 60),
    (Call(Mremap), 120),
    (Call(Madvise), 400),
    (Call(Mlock), 120),
    (Call(Mlock2), 40),
    (Call(Munlock), 80),
    (Call(Mlockall), 6),
    (Call(Munlockall), 10),
    (Kind::Advise, 60),
];
const FORKING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 120),
    (Call(Mprotect), 120),
    (Call(Mremap), 100),
    (Call(Madvise), 160),
    (Call(Brk), 40),
    (Call(Mlock2), 30),
    (Call(Munlock), 10),
    (Call(Mlockall), 20),
    (Call(Munlockall), 5),
    (Call(Mseal), 2),
    (Call(PkeyMprotect), 10),
    (Call(PkeyAlloc), 10),
    (Call(PkeyFree), 4),
    (Call(Name), 10),
    (Kind::Limit(Limit::MemLock), 2),
    (Kind::Advise, 60),
    (Kind::Touch, 60),
    (Kind::Fork, 60),
    (Kind::Switch, 100),
];
const EXECUTING: &[(Kind, u64)] = &[
    (Call(Mmap), 340),
    (Call(Munmap), 120),
    (Call(Mprotect), 100),
    (Call(Mremap), 100),
    (Call(Madvise), 60),
    (Call(Brk), 60),
    (Call(Mlock2), 10),
    (Call(Mlockall), 10),
    (Call(PkeyAlloc), 10),
    (Call(Name), 10),
    (Kind::Limit(Limit::Stack), 60),
    (Kind::Limit(Limit::AddressSpace), 5),
    (Kind::Limit(Limit::Data), 5),
    (Kind::Touch, 100),
    (Kind::Fork, 10),
    (Kind::Switch, 20),
    (Kind::Exec, 60),
];
const LIMITED: &[(Kind, u64)] = &[
    (Call(Mmap), 360),
    (Call(Munmap), 150),
    (Call(Mprotect), 160),
    (Call(Mremap), 140),
    (Call(Madvise), 60),
    (Call(Brk), 60),
    (Call(Mlock2), 20),
    (Call(Munlock), 10),
    (Call(Mlockall), 4),
    (Kind::Limit(Limit::AddressSpace), 3),
    (Kind::Limit(Limit::Data), 3),
    (Kind::Limit(Limit::MemLock), 2),
    (Kind::Limit(Limit::Stack), 4),
    (Kind::Touch, 40),
    (Kind::Exec, 1),
];

const CORE: Persona = Persona {
    name: "core",
    weights: PLAIN,
    files: false,
    odd: false,
    grow: 0,
    locked: 0,
    huge: 0,
    populate: false,
    only_forks: false,
    advice: ADVICE,
    limit: None,
};

/// All kinds of runs.
pub const ALL: &[Persona] = &[
    CORE,
    Persona { name: "lock", weights: LOCKING, locked: 20, ..CORE },
    Persona { name: "remap", weights: REMAPPING, ..CORE },
    Persona { name: "grow", weights: GROWING, grow: 40, ..CORE },
    Persona {
        name: "huge",
        weights: EVERYTHING,
        grow: 8,
        locked: 8,
        huge: 130,
        advice: ALL_ADVICE,
        ..CORE
    },
    Persona { name: "seal", weights: SEALING, advice: GUARD_ADVICE, ..CORE },
    Persona {
        name: "wide",
        weights: EVERYTHING,
        files: true,
        odd: true,
        grow: 15,
        locked: 8,
        advice: ALL_ADVICE,
        ..CORE
    },
    Persona {
        name: "memlock",
        weights: DROPPING,
        files: true,
        odd: true,
        locked: 15,
        limit: Some((Limit::MemLock, 1)),
        ..CORE
    },
    Persona {
        name: "user",
        weights: DROPPING,
        files: true,
        odd: true,
        grow: 15,
        locked: 8,
        ..CORE
    },
    Persona {
        name: "data",
        weights: LIMITED,
        files: true,
        odd: true,
        locked: 8,
        limit: Some((Limit::Data, 1)),
        ..CORE
    },
    Persona {
        name: "as",
        weights: LIMITED,
        files: true,
        odd: true,
        locked: 8,
        limit: Some((Limit::AddressSpace, 1)),
        ..CORE
    },
    Persona {
        name: "populate",
        weights: EVERYTHING,
        files: true,
        locked: 40,
        populate: true,
        advice: ALL_ADVICE,
        limit: Some((Limit::AddressSpace, 3)),
        ..CORE
    },
    Persona { name: "touch", weights: TOUCHING, grow: 10, ..CORE },
    Persona {
        name: "guard",
        weights: GUARDING,
        files: true,
        locked: 40,
        populate: true,
        advice: UPON_GUARDS,
        limit: Some((Limit::AddressSpace, 3)),
        ..CORE
    },
    Persona {
        name: "fork",
        weights: FORKING,
        only_forks: true,
        files: true,
        odd: true,
        grow: 8,
        ..CORE
    },
    Persona { name: "exec", weights: EXECUTING, files: true, odd: true, grow: 15, ..CORE },
];
