//! The calls that are not served here, and what a kernel should answer to them.
//!
//! Some calls have sub-calls about the address space, which have no numbers of their own:
//!
//! - prctl(2): `PR_SET_VMA` is [`Mm::set_anon_name`](super::Mm::set_anon_name), `PR_SET_MDWE` is
//!   [`WriteExec::Mdwe`](super::WriteExec::Mdwe). `PR_SET_THP_DISABLE` changes no VMA: the kernel
//!   remembers it where it makes huge pages. Answer `EINVAL` to `PR_SET_MM` (which checkpoints
//!   need) and `PR_SET_MEMORY_MERGE` (programs can ask for each VMA: `MADV_MERGEABLE`), as Linux
//!   does without `CONFIG_CHECKPOINT_RESTORE` and `CONFIG_KSM`.
//! - `arch_prctl(2)`: answer `EINVAL` to `ARCH_MAP_VDSO_*`, as Linux does without
//!   `CONFIG_CHECKPOINT_RESTORE`, and to `ARCH_SHSTK_*`, as it does without shadow stacks.
//! - personality(2): see [the differences](super#where-this-differs-from-linux-on-purpose).

use crate::Errno;

/// A memory call that [`Mm`](super::Mm) does not serve.
///
/// ```
/// use kvma::Errno;
/// use kvma::linux::Unserved;
///
/// /// The last branch of a system-call table.
/// fn unknown(number: u32) -> Errno {
///     match Unserved::by_number(number) {
///         Some(call) => {
///             println!("{} is not served: {}", call.name(), call.why());
///             call.errno()
///         }
///         None => Errno::ENOSYS,
///     }
/// }
///
/// const USERFAULTFD: u32 = 323;
/// assert_eq!(unknown(USERFAULTFD), Errno::ENOSYS);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unserved {
    name: &'static str,
    number: u32,
    errno: Errno,
    why: &'static str,
}

impl Unserved {
    /// Returns the name of the call.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the number of the call on x86-64.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Returns the answer to give: that of a Linux built without the call, so that programs know
    /// what to do.
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// Returns the reason why it is not served.
    pub const fn why(&self) -> &'static str {
        self.why
    }

    /// Returns the entry with a call's number, if the call is one of them.
    pub fn by_number(number: u32) -> Option<&'static Self> {
        UNSERVED.iter().find(|call| call.number == number)
    }
}

/// Makes an entry. All get the same answer today.
const fn call(name: &'static str, number: u32, why: &'static str) -> Unserved {
    Unserved { name, number, errno: Errno::ENOSYS, why }
}

const MEMORY_NODES: &str = "the frame allocator decides which memory node pages come from";
const SYSTEM_V: &str = "the kernel keeps the segments: Mm::shmat and Mm::shmdt map them";
const ASYNC_IO: &str = "maps a ring of its own: mmap of the ring's object and mremap serve it";
const COPIES: &str = "copies between address spaces: a kernel finds the pages by Mm::fault";
const SWAP: &str = "the frame allocator decides where pages go";

/// All the calls that are not served.
pub const UNSERVED: &[Unserved] = &[
    call(
        "remap_file_pages",
        216,
        "deprecated since Linux 3.16: it is mmap over a part of a shared mapping",
    ),
    call(
        "userfaultfd",
        323,
        "another program answers faults: a kernel can build it on the hooks and the flags um, uw, \
         ui",
    ),
    call("map_shadow_stack", 453, "needs the processor's shadow stacks"),
    call("mbind", 237, MEMORY_NODES),
    call("set_mempolicy", 238, MEMORY_NODES),
    call("get_mempolicy", 239, MEMORY_NODES),
    call("set_mempolicy_home_node", 450, MEMORY_NODES),
    call("migrate_pages", 256, MEMORY_NODES),
    call("move_pages", 279, MEMORY_NODES),
    call("memfd_secret", 447, "memory that the kernel itself does not map"),
    call("shmget", 29, SYSTEM_V),
    call("shmctl", 31, SYSTEM_V),
    call("io_setup", 206, ASYNC_IO),
    call("io_destroy", 207, ASYNC_IO),
    call("uselib", 134, "gone from Linux: programs load their libraries themselves"),
    call("process_vm_readv", 310, COPIES),
    call("process_vm_writev", 311, COPIES),
    call("swapon", 167, SWAP),
    call("swapoff", 168, SWAP),
    call("membarrier", 324, "orders the accesses of threads, which only the scheduler knows"),
    call("cachestat", 451, "asks the cache of a file, not an address space"),
    call("process_mrelease", 448, "the scheduler reaps dying processes"),
];
