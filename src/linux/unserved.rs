//! Calls that are not served here, and what a kernel should answer.

use crate::Errno;

/// A memory call that [`Mm`](super::Mm) does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unserved {
    name: &'static str,
    number: u32,
    errno: Errno,
    why: &'static str,
}

impl Unserved {
    /// The call's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its number on x86-64.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// What to answer: what Linux answers where it is built without the call, so that programs know what to do.
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// Why it is not served.
    pub const fn why(&self) -> &'static str {
        self.why
    }

    /// The entry for a call's number, if the call is one of them.
    pub fn by_number(number: u32) -> Option<&'static Self> {
        UNSERVED.iter().find(|call| call.number == number)
    }
}

const fn call(name: &'static str, number: u32, errno: Errno, why: &'static str) -> Unserved {
    Unserved { name, number, errno, why }
}

/// All of them.
pub const UNSERVED: &[Unserved] = &[
    call(
        "remap_file_pages",
        216,
        Errno::ENOSYS,
        "deprecated since Linux 3.16; it is mmap over a part of a shared mapping",
    ),
    call(
        "userfaultfd",
        323,
        Errno::ENOSYS,
        "faults are answered by another program; an owner can build it on the hooks and the flags um, uw, ui",
    ),
    call("map_shadow_stack", 453, Errno::EOPNOTSUPP, "needs the processor's shadow stacks"),
    call("mbind", 237, Errno::ENOSYS, "which memory node pages come from is the frame allocator's affair"),
    call("set_mempolicy", 238, Errno::ENOSYS, "as mbind"),
    call("get_mempolicy", 239, Errno::ENOSYS, "as mbind"),
    call("set_mempolicy_home_node", 450, Errno::ENOSYS, "as mbind"),
    call("migrate_pages", 256, Errno::ENOSYS, "as mbind"),
    call("move_pages", 279, Errno::ENOSYS, "as mbind"),
    call("memfd_secret", 447, Errno::ENOSYS, "memory that the kernel itself does not map"),
    call("shmat", 30, Errno::ENOSYS, "System V shared memory: mmap of the segment's object serves it"),
    call("shmdt", 67, Errno::ENOSYS, "as shmat"),
    call("process_mrelease", 448, Errno::ENOSYS, "reaping a dying process is the scheduler's affair"),
];
