//! The Linux address-space calls, errno by errno, on top of the clean core.
//!
//! [`Mm`] is what Linux calls an `mm_struct`: one program's address space. A kernel hands the
//! arguments of a system call over as it got them from user space, together with an [`Update`] that
//! carries its [`Kernel`] (page-table hooks and what only the kernel knows), and returns what it is
//! told.
//!
//! The core underneath does all or nothing. Linux does not: a call that fails half-way may leave a
//! VMA split, a part of the range changed, or a hole. Where Linux leaves such traces so does this
//! layer, by several operations on the core; every place says so.
//!
//! The rules are those of Linux 6.18 on x86-64 ([`Rules`]).
//!
//! One file a call. `abi` has the numbers.
//!
//! # Behind a lock
//!
//! [`AddrSpace<Mm>`](crate::AddrSpace) adds the lock, lookups without it, and the calls that must
//! not hold it for long:
//!
//! | call | VMAs in one hold of the lock |
//! |---|---|
//! | `AddrSpace::munmap`, `mlockall`, `munlockall`, `clear` (execve, exit) | at most [`MAX_VMAS_PER_LOCK_HOLD`] |
//! | `AddrSpace::fork` | all, which it counts and takes nodes for without the lock |
//! | [`AddrSpace::update`](crate::AddrSpace::update) with any call on [`Mm`] | all in the call's range |
//!
//! In between, the flush is waited for and what was removed is dropped; limits, counts and promises
//! are right. If anything at all is sealed, munmap's first hold looks at all VMAs in the range.
//! Replacing (`MAP_FIXED`), mprotect, mremap and brk are never cut, nor is fork: what they leave
//! half done, others must not see. mlock, madvise, msync and mseal could be, and are not: who asks
//! for a long range waits.
//!
//! Whatever edits page tables follows the order of
//! [`addr_space`](crate::addr_space#no-stale-page-table-entry): tokens of page faults die, the
//! owner edits, the flush begins, and after unlock it is waited for. That holds for forks and for
//! advice too, though VMAs stay as they are ([`Kernel::inherit`], [`PageOp`]).
//!
//! [`MAX_VMAS_PER_LOCK_HOLD`]: crate::addr_space::MAX_VMAS_PER_LOCK_HOLD
//!
//! # Where this differs from Linux on purpose
//!
//! - Huge pages (`MAP_HUGETLB`, hugetlbfs) are the owner's to set aside, to count and to give back
//!   ([`Kernel::huge_memory`], [`Kernel::map_file`]). One that says nothing of them has none, and
//!   then `MAP_NORESERVE`, which on Linux gets addresses with no pages behind them, gets `ENOMEM`
//!   as well.
//! - Which pages can be brought in only the owner knows: guards are entries of its page tables, and
//!   a file's end moves. What it answers to [`PageOp::Populate`] and the like counts as Linux's
//!   faults do: `EFAULT` over a guard or beyond the file's last page, which mlock calls `ENOMEM`,
//!   `MADV_POPULATE_*` `EFAULT`, and mmap and mlockall nothing.
//! - What a stack without `ac` grows by is promised and given back at once. Linux keeps the charge,
//!   and takes it back only from VMAs with `ac`, so that its count drifts.
//! - `PROT_EXEC` alone does not take a protection key of its own.
//! - `personality(READ_IMPLIES_EXEC)` is for the owner to translate: pass `PROT_EXEC` as well.
//! - `/dev/zero` is a file like any other. To Linux its private mappings are anonymous memory, in
//!   all but their names: an owner can pass `MAP_ANONYMOUS` instead.
//! - Shared anonymous memory takes no name (`PR_SET_VMA`).
//! - `MADV_HWPOISON` and `MADV_SOFT_OFFLINE` are unknown advice, as on a kernel without memory
//!   failure handling.
//! - A path goes to [`core::fmt::Write`], so that it is UTF-8; what else an owner's paths hold it
//!   writes as it likes. What Linux wrote is read in any encoding ([`maps::parse_bytes`]).
//! - Which anonymous pages were touched first by which VMA (`anon_vma`) is followed as far as VMAs'
//!   flags and offsets depend on it; neighbours that Linux keeps apart for its reverse map alone
//!   are joined, as in a child what both had pages of when it was forked.
//! - Calls that are not served at all: [`UNSERVED`].

pub mod abi;
mod brk;
mod fault;
mod file;
mod fork;
mod kernel;
mod layout;
mod limits;
mod locked;
mod madvise;
pub mod maps;
mod mincore;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod mseal;
mod msync;
mod munmap;
mod names;
mod pkey;
mod policy;
mod process_madvise;
mod removal;
mod setup;
mod unmapped_area;
mod unserved;
mod vm_flags;
mod vma;
mod vma_view;

pub use fault::{Access, Fault, FaultAction, Mode, SegvCode};
pub use file::{Alignment, File, OpenFile, Rights, Traits};
pub use kernel::{Capabilities, CommitLimit, Inheritance, Kernel, Overcommit, PageOp};
pub use layout::{Growth, Layout};
pub use limits::{Limits, Resource, Usage};
pub use mmap::Mmap;
pub use policy::{Policy, WriteExec};
pub use process_madvise::Target;
pub use setup::{Gate, Install};
pub use unserved::{UNSERVED, Unserved};
pub use vm_flags::VmFlags;
pub use vma::{LinuxVma, Role};

use pkey::Keys;

use crate::{Error, HasVmMap, Hooks, NodeAlloc, Update, VmMap, VmaNode, Vmas};

/// The version of Linux whose rules are followed. mremap over several VMAs, for one, is new in
/// 6.17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rules {
    major: u32,
    minor: u32,
}

impl Rules {
    /// Linux 6.18.
    pub const V6_18: Self = Self { major: 6, minor: 18 };

    /// Major and minor version.
    pub const fn version(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

/// Most VMAs that a program may have (`vm.max_map_count`), unless [`Mm::set_max_map_count`] says
/// otherwise.
pub const MAX_MAP_COUNT: usize = 65530;

/// What carries an owner into a call on [`Mm`], and owed work out of it.
pub type Call<'h, F, A, O> = Update<'h, LinuxVma<F>, A, O>;

/// A program's address space, as Linux keeps it.
///
/// No lock of its own: put it into an [`AddrSpace`](crate::AddrSpace) for that.
///
/// Each call needs at most three nodes at a time; when there are none it fails with `ENOMEM`, as
/// Linux does.
pub struct Mm<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> {
    map: VmMap<LinuxVma<F>, A>,
    layout: Layout,
    limits: Limits,
    usage: Usage,
    max_map_count: usize,
    /// Where the heap starts.
    start_brk: u64,
    /// Where it ends, to the byte.
    brk: u64,
    /// Bytes of initialised data, which `RLIMIT_DATA` counts with the heap.
    data_segment: u64,
    /// Where the program's stack began: in the VMA that maps calls `[stack]`. 0 if there is none.
    start_stack: u64,
    /// `lo lf` for what is mapped from now on (`MCL_FUTURE`).
    future: VmFlags,
    gate: Gate,
    policy: Policy,
    keys: Keys,
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// An empty address space.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Unaligned`] or [`Error::OutOfRange`] for a layout that
    /// makes no sense.
    pub fn new(layout: Layout, alloc: A) -> Result<Self, Error> {
        layout.check()?;
        let map = VmMap::new(0, layout.pages(layout.task_size()), layout.page_size(), alloc)?;
        Ok(Self {
            map,
            layout,
            limits: Limits::default(),
            usage: Usage::default(),
            max_map_count: MAX_MAP_COUNT,
            start_brk: 0,
            brk: 0,
            data_segment: 0,
            start_stack: 0,
            future: VmFlags::empty(),
            gate: Gate::None,
            policy: Policy::new(),
            keys: Keys::new(),
        })
    }

    /// What carries `owner` into calls, and owed work out of them.
    pub fn update<'h, O: Hooks<LinuxVma<F>>>(&self, owner: &'h mut O) -> Call<'h, F, A, O> {
        self.map.update(owner)
    }

    /// All VMAs in order. Their flags: [`VmFlags::of`].
    pub fn iter(&self) -> Vmas<'_, LinuxVma<F>> {
        self.map.iter()
    }

    /// The shape of the address space.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The resource limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sets resource limits. What is in use already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The version of Linux whose rules are followed.
    pub fn rules(&self) -> Rules {
        Rules::V6_18
    }

    /// The owner's own rules.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Sets the owner's own rules. What is mapped already stays.
    ///
    /// # Errors
    /// [`Error::Unaligned`] for a guard that is not made of pages.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), Error> {
        if !self.layout.is_aligned(policy.guard()) {
            return Err(Error::Unaligned);
        }
        self.policy = policy;
        Ok(())
    }

    /// What is in use.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Number of VMAs (`map_count`).
    pub fn map_count(&self) -> usize {
        self.map.len()
    }

    /// Checks every invariant of the map, and the counts against the VMAs: the first thing wrong.
    /// For tests.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        self.map.check()?;
        let mut usage = Usage::default();
        for vma in self.iter() {
            usage.add(VmFlags::of(&vma), vma.pages());
        }
        // Locked pages may be retry_with_nodes too high: see `mremap`.
        if usage.equals_but_for_locked(&self.usage) && usage.locked() <= self.usage.locked() {
            Ok(())
        } else {
            Err("usage is not what the VMAs add up to")
        }
    }

    /// Sets how many VMAs there may be.
    pub fn set_max_map_count(&mut self, max: usize) {
        self.max_map_count = max;
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> HasVmMap for Mm<F, A> {
    type Data = LinuxVma<F>;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<LinuxVma<F>, A> {
        &self.map
    }
}
