//! The Linux address-space calls, errno by errno, on top of [`VmMap`](crate::VmMap).
//!
//! [`Mm`] is what Linux calls an `mm_struct`: the address space of one program. A kernel passes the
//! arguments of a system call on as it got them from user space, and returns the answer as it is.
//! [`Mm`] asks the kernel through [`Kernel`] what that alone knows: the caller's capabilities,
//! how much memory may be committed, and the [`Hooks`](crate::Hooks) that edit page tables.
//!
//! The core below does all or nothing. Linux does not: a call that fails half-way may leave a VMA
//! split, a part of the range changed, or a gap. Where Linux leaves such traces, so does this
//! layer, by calling the core several times; the docs of each call say what stays.
//!
//! The rules are those of Linux 6.18 on x86-64 ([`Rules`]).
//!
//! There is one file for each system call. [`abi`] has the numbers of flags, [`maps`] writes and
//! reads `/proc/PID/maps`.
//!
//! # Behind a lock
//!
//! [`Mm`] itself takes `&mut self`. [`AddrSpace<Mm>`](crate::AddrSpace) adds the lock, lookups
//! without it, and all the calls with a `&self`:
//!
//! ```
//! use kvma::linux::abi::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE};
//! use kvma::linux::{Layout, Mm, Mmap, NoKernel};
//! # use kvma::linux::{File, LinuxVma};
//! # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
//! # #[derive(Clone, Copy, Debug, PartialEq)]
//! # struct Inode(u32);
//! # impl File for Inode {
//! #     fn id(&self) -> u64 { self.0.into() }
//! #     fn device(&self) -> (u32, u32) { (8, 1) }
//! #     fn inode(&self) -> u64 { self.0.into() }
//! #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result { Ok(()) }
//! # }
//! # let pool = FixedPool::<VmaNode<LinuxVma<Inode>>, 16>::new();
//! # let mut kernel = NoKernel;
//! let space = AddrSpace::new(Mm::<Inode, _>::new(Layout::x86_64(8 << 20), &pool)?);
//! let heap = Mmap {
//!     addr: 0,
//!     len: 0x4000,
//!     prot: PROT_READ | PROT_WRITE,
//!     flags: MAP_PRIVATE | MAP_ANONYMOUS,
//!     offset: 0,
//!     file: None,
//! };
//! let at = space.mmap(heap, &mut kernel)?;
//! space.mprotect(at + 0x1000, 0x1000, PROT_READ, &mut kernel)?;
//! assert_eq!(space.inspect(|mm| mm.map_count()), 3);
//! assert_eq!(space.munmap(at + 1, 0x1000, &mut kernel), Err(Errno::EINVAL));
//! # Ok::<(), Errno>(())
//! ```
//!
//! How long a call holds the lock:
//!
//! | call on `AddrSpace` | VMAs in one hold of the lock |
//! |---|---|
//! | `munmap`, `mlockall`, `munlockall`, `clear` | at most [`MAX_VMAS_PER_LOCK_HOLD`] |
//! | `fork` | all of them; their nodes are taken before the lock |
//! | every other call | all in the call's range |
//!
//! `clear` is what execve and exit do. Calls of the first kind work in batches: in between, the
//! flush is waited for and what was removed is dropped, and limits, counts and charges are right.
//! If anything at all is sealed, munmap's first hold looks at every VMA in the range. Replacing
//! (`MAP_FIXED`), mprotect, mremap, brk and fork are never done in batches: others must not see
//! them half done. mlock, madvise, msync and mseal could be, but are not: who asks for a long range
//! waits.
//!
//! All of them drop the kernel's handles ([`File`]) after unlock, whatever becomes of the call, so
//! that the handles' `Drop` may take any lock.
//!
//! Page tables are edited in the order that
//! [`addr_space`](crate::addr_space#no-stale-page-table-entry) describes: tokens of page faults are
//! invalidated, the kernel edits, the flush begins, and after unlock it is waited for. That holds
//! for fork and for advice too, which leave the VMAs as they are ([`Kernel::inherit`], [`PageOp`]).
//!
//! [`MAX_VMAS_PER_LOCK_HOLD`]: crate::addr_space::MAX_VMAS_PER_LOCK_HOLD
//!
//! # What files say
//!
//! | of a file | is told by |
//! |---|---|
//! | how it was opened; seals, `noexec` and the like | [`OpenFile`], [`Traits`] for each mmap |
//! | that it refuses, and the flags of its VMAs | [`Kernel::map_file`] for each mmap |
//! | where its mappings start | [`File::alignment`] |
//! | what calls may not do to its VMAs | [`File::restrictions`] |
//! | that it is a segment of System V shared memory | [`File::segment_size`] |
//!
//! A buffer of `perf_event_open(2)`, for one, adds `io de pf dc dd` and has
//! [`Restrictions::NO_SPLIT`]; a ring of `io_uring(7)` adds `de mm` and has
//! [`Restrictions::NO_ADDRESS`]; memory of `memfd_secret(2)` adds `lo dd` and has
//! [`Restrictions::NO_LOCK`] and [`Restrictions::NO_POPULATE`]. All three have
//! [`Traits::NO_EXEC`].
//!
//! # Where this differs from Linux on purpose
//!
//! - Huge pages (`MAP_HUGETLB`, hugetlbfs) are the kernel's to set aside, to count and to give back
//!   ([`Kernel::huge_memory`], [`Kernel::map_file`]). A kernel that does not implement them has
//!   none, and then `MAP_NORESERVE`, which on Linux gets addresses with no pages behind them, gets
//!   `ENOMEM` as well.
//! - Only the kernel knows which pages can be brought in: guards are entries of its page tables,
//!   and the end of a file moves. Its answers to [`PageOp::Populate`] and the like count as Linux's
//!   faults do: `EFAULT` over a guard or beyond the file's last page. mlock turns that into
//!   `ENOMEM`, `MADV_POPULATE_*` returns it, and mmap and mlockall ignore it.
//! - What a stack without `ac` grows by is charged and uncharged at once. Linux keeps the charge,
//!   but uncharges only VMAs with `ac`, so that its count drifts.
//! - `PROT_EXEC` alone does not take a protection key of its own.
//! - `personality(READ_IMPLIES_EXEC)` is for the kernel to translate: pass `PROT_EXEC` as well.
//! - `/dev/zero` is a file like any other. To Linux its private mappings are anonymous memory in
//!   everything but their names; a kernel can pass `MAP_ANONYMOUS` instead.
//! - Shared anonymous memory takes no name (`PR_SET_VMA`).
//! - `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` are unknown advice, as on a kernel without memory
//!   failure handling.
//! - Paths are written through [`core::fmt::Write`], so they are UTF-8; a kernel whose paths hold
//!   other bytes decides how to show them. Reading takes any encoding ([`maps::parse_bytes`]).
//! - Linux's `anon_vma`, which keeps VMAs apart that have private pages of their own and never
//!   could have been one, is followed if the kernel reports first writes ([`Mm::fault`],
//!   [`Mm::note_write`]). For a kernel that does not, everything is untouched.
//! - Some calls are not served at all: [`UNSERVED`].

// First, so that rustdoc, which goes by the order of the source, begins with the calls that are
// made most.
mod mm;
mod mmap;
mod mprotect;
mod mremap;
mod munmap;

pub mod abi;
mod anon_name;
mod brk;
mod calls;
mod exec;
mod fault;
mod file;
mod fork;
mod kernel;
mod layout;
mod limits;
mod madvise;
pub mod maps;
mod mincore;
mod mlock;
mod mlockall;
mod modify;
mod mseal;
mod msync;
mod no_kernel;
mod overcommit;
mod page_op;
mod pkey;
mod policy;
mod process_madvise;
mod shmat;
mod unmapped_area;
mod unserved;
mod vm_flags;
mod vma;
mod vma_view;
mod walk;

pub use self::exec::{Gate, Install};
pub use self::fault::{Access, Fault, FaultAction, Mode, SegvCode};
pub use self::file::{Alignment, File, OpenFile, Restrictions, Rights, Traits};
pub use self::kernel::{Capabilities, Inheritance, Kernel};
pub use self::layout::Layout;
pub use self::limits::{Limits, Resource, Usage};
pub use self::mm::{Call, MAX_MAP_COUNT, Mm, MmAlloc, Rules};
pub use self::mmap::Mmap;
pub use self::no_kernel::{NoFile, NoKernel, WithErrno, on_event};
pub use self::overcommit::{CommitLimit, Overcommit};
pub use self::page_op::PageOp;
pub use self::policy::{Policy, WriteExec};
pub use self::process_madvise::Target;
pub use self::shmat::Shmat;
pub use self::unserved::{UNSERVED, Unserved};
pub use self::vm_flags::VmFlags;
pub use self::vma::{LinuxVma, Role};
use crate::range::PageRange;
