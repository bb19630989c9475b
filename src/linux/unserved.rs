//! Calls that are not served here, and what a kernel should answer.
//!
//! Some calls have sub-calls about the address space, for which there is no number of their own:
//!
//! - prctl(2): `PR_SET_VMA` is [`Mm::set_anon_name`](super::Mm::set_anon_name), `PR_SET_MDWE` is
//!   [`WriteExec::Mdwe`](super::WriteExec::Mdwe). `PR_SET_THP_DISABLE` changes no VMA: the owner
//!   remembers it where it makes huge pages. To `PR_SET_MM` (what checkpoints need) and
//!   `PR_SET_MEMORY_MERGE` (ask for each VMA instead: `MADV_MERGEABLE`) answer `EINVAL`, as Linux
//!   does without `CONFIG_CHECKPOINT_RESTORE` and `CONFIG_KSM`.
//! - arch_prctl(2): to `ARCH_MAP_VDSO_*` answer `EINVAL`, as Linux does without
//!   `CONFIG_CHECKPOINT_RESTORE`, and to `ARCH_SHSTK_*`, as without shadow stacks.
//! - personality(2): see [the differences](super#where-this-differs-from-linux-on-purpose).

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

    /// What to answer: what Linux answers where it is built without the call, so that programs know
    /// what to do.
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
    call("map_shadow_stack", 453, Errno::ENOSYS, "needs the processor's shadow stacks"),
    call(
        "mbind",
        237,
        Errno::ENOSYS,
        "which memory node pages come from is the frame allocator's affair",
    ),
    call("set_mempolicy", 238, Errno::ENOSYS, "as mbind"),
    call("get_mempolicy", 239, Errno::ENOSYS, "as mbind"),
    call("set_mempolicy_home_node", 450, Errno::ENOSYS, "as mbind"),
    call("migrate_pages", 256, Errno::ENOSYS, "as mbind"),
    call("move_pages", 279, Errno::ENOSYS, "as mbind"),
    call("memfd_secret", 447, Errno::ENOSYS, "memory that the kernel itself does not map"),
    call(
        "shmat",
        30,
        Errno::ENOSYS,
        "System V shared memory: mmap of the segment's object serves it",
    ),
    call("shmdt", 67, Errno::ENOSYS, "as shmat"),
    call("shmget", 29, Errno::ENOSYS, "as shmat"),
    call("shmctl", 31, Errno::ENOSYS, "as shmat"),
    call(
        "io_setup",
        206,
        Errno::ENOSYS,
        "maps a ring of its own; mmap of the ring's object and mremap serve it",
    ),
    call("io_destroy", 207, Errno::ENOSYS, "as io_setup"),
    call(
        "uselib",
        134,
        Errno::ENOSYS,
        "gone from Linux: loading libraries is the program's affair",
    ),
    call(
        "process_vm_readv",
        310,
        Errno::ENOSYS,
        "copies between spaces: an owner finds the pages by Mm::fault",
    ),
    call("process_vm_writev", 311, Errno::ENOSYS, "as process_vm_readv"),
    call("swapon", 167, Errno::ENOSYS, "where pages go is the frame allocator's affair"),
    call("swapoff", 168, Errno::ENOSYS, "as swapon"),
    call(
        "membarrier",
        324,
        Errno::ENOSYS,
        "orders accesses of threads, which only the scheduler knows",
    ),
    call("cachestat", 451, Errno::ENOSYS, "asks the cache of a file, not an address space"),
    call(
        "process_mrelease",
        448,
        Errno::ENOSYS,
        "reaping a dying process is the scheduler's affair",
    ),
];
