//! What the layer asks of the kernel around it, and tells it.

use bitflags::bitflags;

use super::file::{File, OpenFile};
use super::limits::Usage;
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use crate::{Errno, Event, Hooks, NoHooks, Piece};

bitflags! {
    /// What the caller may do (capabilities(7)).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Capabilities: u8 {
        /// `CAP_IPC_LOCK`: lock more memory than the limit.
        const IPC_LOCK = 1;
        /// `CAP_SYS_RAWIO`: map the lowest addresses.
        const SYS_RAWIO = 1 << 1;
        /// `CAP_SYS_ADMIN`: commit the last few per cent of memory.
        const SYS_ADMIN = 1 << 2;
    }
}

/// What is to be done to the pages of one piece of a VMA. None of it changes the VMA.
///
/// Most actions take page-table entries away, narrow them, or put others in their place. For these
/// the owner need not flush: before it acts, page faults that have looked the VMA up [must look
/// again](crate::AddrSpace::still_valid), and `flush_begin` follows, `flush_wait` after unlock. The
/// others say that they are not of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageOp {
    /// Bring the pages in, writable where the VMA is (mlock, `MAP_POPULATE`, a locked VMA that
    /// grew). Not followed by a flush, like the two below: it does what page faults do, and what
    /// those owe (for a page that is copied) it owes itself. As for them, where another thread's
    /// flush is still under way ([`Token::is_dead`](crate::Token::is_dead)), the page is to be left
    /// to a fault, or flushed first.
    Populate,
    /// `MADV_POPULATE_READ`: as if each page had been read.
    PopulateRead,
    /// `MADV_POPULATE_WRITE`: as if each page had been written.
    PopulateWrite,
    /// `MADV_WILLNEED`: read ahead. Not followed by a flush: entries are added at most.
    WillNeed,
    /// `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED`: drop what is mapped, but no guards; the next access
    /// sees zeros or the file.
    DontNeed,
    /// `MADV_FREE`: may be dropped until it is written again, which entries must show: they become
    /// clean.
    Free,
    /// `MADV_REMOVE`: punch a hole in the object, whose pages go from here, too.
    Remove,
    /// `MADV_COLD`: reclaim early, unless it is used: entries must show the next use.
    Cold,
    /// `MADV_PAGEOUT`: reclaim now.
    PageOut,
    /// `MADV_COLLAPSE`: make huge pages of it now. One entry takes the place of many.
    Collapse,
    /// `MADV_GUARD_INSTALL`: each page faults from now on (`SEGV_MAPERR`, if the VMA would allow
    /// the access), and its contents go. A guard moves with its VMA, and goes with it.
    GuardInstall,
    /// `MADV_GUARD_REMOVE`: take such guards away. Not followed by a flush: no processor remembers
    /// that there was nothing.
    GuardRemove,
    /// `msync(MS_SYNC)`: write the object's range to its device, and wait. So that later writes
    /// show, entries become read-only or clean; a fault that has noted its write already must note
    /// it again.
    WriteBack,
    /// `mincore`: say which pages are in memory. Not followed by a flush: it only looks.
    Residency,
}

impl PageOp {
    /// Whether entries go, are narrowed, or are exchanged.
    pub(super) const fn takes_entries(self) -> bool {
        match self {
            Self::DontNeed
            | Self::Free
            | Self::Remove
            | Self::Cold
            | Self::PageOut
            | Self::Collapse
            | Self::GuardInstall
            | Self::WriteBack => true,
            Self::Populate
            | Self::PopulateRead
            | Self::PopulateWrite
            | Self::WillNeed
            | Self::GuardRemove
            | Self::Residency => false,
        }
    }
}

/// What a fork does with the pages of a VMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inheritance {
    /// Both see the same pages until one writes: take write access away on both sides.
    CopyOnWrite,
    /// Both see the same pages for good. The child's entries may be left to its faults, but for
    /// guards, which it inherits here as everywhere.
    Share,
    /// The child sees zeros, and no guards (`MADV_WIPEONFORK`).
    Wipe,
}

/// How strict the kernel is about promising memory (`vm.overcommit_memory`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overcommit {
    /// 0: refuse only what alone exceeds all memory.
    #[default]
    Heuristic,
    /// 1: refuse nothing.
    Always,
    /// 2: refuse what exceeds the commit limit, even if it said MAP_NORESERVE.
    Never,
}

impl Overcommit {
    /// The decision of `__vm_enough_memory`. `pages` are asked for, `committed` are promised
    /// already by all processes together (those asked for included), `memory` is RAM plus swap,
    /// `limit` what may be promised in mode 2: [`CommitLimit::pages`].
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn decide(self, pages: u64, committed: u64, memory: u64, limit: u64) -> Result<(), Errno> {
        let enough = match self {
            Self::Always => true,
            Self::Heuristic => pages <= memory,
            Self::Never => committed < limit,
        };
        if enough { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

/// What may be promised in mode 2 (`vm_commit_limit`), and what of it is kept back
/// (`__vm_enough_memory`). All in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitLimit {
    all: u64,
    admin_reserve: u64,
    user_reserve: u64,
}

impl CommitLimit {
    /// `percent` of the RAM that is not set aside for huge pages (`vm.overcommit_ratio`, 50), and
    /// all of the swap space.
    pub const fn of_ram(ram: u64, huge_pages: u64, percent: u64, swap: u64) -> Self {
        Self::of_pages(ram.saturating_sub(huge_pages).saturating_mul(percent) / 100, swap)
    }

    /// So much RAM (`vm.overcommit_kbytes`), and all of the swap space.
    pub const fn of_pages(ram: u64, swap: u64) -> Self {
        Self { all: ram.saturating_add(swap), admin_reserve: 0, user_reserve: 0 }
    }

    /// The same with `admin` pages that only `CAP_SYS_ADMIN` gets (`vm.admin_reserve_kbytes`, 8
    /// MiB), and `user` that a process does not get of which they are more than a 32nd
    /// (`vm.user_reserve_kbytes`, 128 MiB). Linux starts with 3 % of the free memory where that is
    /// less.
    #[must_use]
    pub const fn with_reserves(self, admin: u64, user: u64) -> Self {
        Self { admin_reserve: admin, user_reserve: user, ..self }
    }

    /// The limit (`CommitLimit` of `/proc/meminfo`).
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// What may be promised to a process that uses `usage`.
    pub fn pages(&self, usage: &Usage, caps: Capabilities) -> u64 {
        let admin = if caps.contains(Capabilities::SYS_ADMIN) { 0 } else { self.admin_reserve };
        // So that one process does not leave its user without means to end it.
        let user = self.user_reserve.min(usage.total() / 32);
        self.all.saturating_sub(admin).saturating_sub(user)
    }
}

/// The kernel's side of a call: the [`Hooks`] that edit page tables, and what only it knows.
///
/// Everything but the hooks has a default, so that a closure or [`NoHooks`] is an owner: no
/// privileges, memory without end, no shared anonymous memory. All methods run under the lock that
/// guards the [`Mm`](super::Mm), if there is one.
pub trait Kernel<F: File>: Hooks<LinuxVma<F>> {
    /// What the caller may do.
    fn capabilities(&self) -> Capabilities {
        Capabilities::empty()
    }

    /// The mode of `vm.overcommit_memory`.
    fn overcommit(&self) -> Overcommit {
        Overcommit::default()
    }

    /// May `pages` more pages be promised to this process, which uses `usage` so far? If so they
    /// count from now on. An owner to whom it does not matter how large the process is leaves this
    /// to [`commit`](Self::commit).
    ///
    /// # Errors
    /// `ENOMEM`, which the call returns. See [`Overcommit::decide`].
    fn charge(&mut self, pages: u64, usage: &Usage) -> Result<(), Errno> {
        let _ = usage;
        self.commit(pages)
    }

    /// May `pages` more pages be promised to any process? If so they count from now on.
    ///
    /// # Errors
    /// As [`charge`](Self::charge).
    fn commit(&mut self, pages: u64) -> Result<(), Errno> {
        let _ = pages;
        Ok(())
    }

    /// `pages` promised pages are needed no more.
    fn uncharge(&mut self, pages: u64) {
        let _ = pages;
    }

    /// A new object of `len` bytes for shared anonymous memory (`shmem_zero_setup`). Without `nr`
    /// in `flags` its pages are to be promised like those of private memory, by the object.
    ///
    /// # Errors
    /// What mmap returns; old mappings at a fixed address are gone then.
    fn shared_memory(&mut self, len: u64, flags: VmFlags) -> Result<F, Errno> {
        let _ = (len, flags);
        Err(Errno::ENOMEM)
    }

    /// Which huge pages `MAP_HUGETLB` means by the logarithm in its size bits; 0 is the usual size
    /// (`hstate_sizelog`). Bytes, one of the sizes of
    /// [`SplitGranularity`](crate::SplitGranularity); `None` if this machine has no such pages,
    /// which mmap calls `EINVAL`. Unless the owner says otherwise, the two of x86-64.
    fn huge_page(&self, log2: u32) -> Option<u64> {
        match log2 {
            0 | 21 => Some(2 << 20),
            30 => Some(1 << 30),
            _ => None,
        }
    }

    /// A new object for `MAP_HUGETLB`: `len` bytes, huge pages of `page` bytes
    /// (`hugetlb_file_setup`, `hugetlb_reserve_pages`). Without `nr` in `flags` as many pages are
    /// to be set aside for it, even if it is private or cannot be accessed; what of them was never
    /// used is given back as the VMA is unmapped.
    ///
    /// # Errors
    /// What mmap returns; old mappings at a fixed address are gone then. `ENOMEM`, unless the owner
    /// says otherwise: there are no huge pages.
    fn huge_memory(&mut self, page: u64, len: u64, flags: VmFlags) -> Result<F, Errno> {
        let _ = (page, len, flags);
        Err(Errno::ENOMEM)
    }

    /// The file's own say in being mapped (`f_op->mmap`).
    ///
    /// # Errors
    /// What mmap returns; old mappings at a fixed address are gone then.
    fn map_file(&mut self, file: &OpenFile<F>, flags: VmFlags) -> Result<(), Errno> {
        let _ = (file, flags);
        Ok(())
    }

    /// A child inherits a VMA, at the same addresses. `vma` is the child's; the parent's has the
    /// same range, and the same attributes but for locks, so that for [`Inheritance::CopyOnWrite`]
    /// one walk over it does both page tables.
    ///
    /// Page faults that have looked up a VMA of the parent must look again by then, and
    /// `flush_begin` follows the last VMA, or the one that was refused; `flush_wait` comes after
    /// unlock. The child's page tables are the owner's affair until fork has succeeded; if it
    /// fails, later VMAs included, they are to be thrown away.
    ///
    /// # Errors
    /// What fork returns.
    fn inherit(&mut self, how: Inheritance, vma: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let _ = (how, vma);
        Ok(())
    }

    /// Work on the pages of `piece`.
    ///
    /// # Errors
    /// What the call returns, if the call minds: mmap and mlockall do not. `EFAULT` for a page that
    /// cannot be brought in, because it is a guard or lies beyond the end of the object.
    fn page_op(&mut self, action: PageOp, piece: &Piece<'_, LinuxVma<F>>) -> Result<(), Errno> {
        let _ = (action, piece);
        Ok(())
    }
}

impl<F: File> Kernel<F> for NoHooks {}

impl<F: File, T: FnMut(Event<'_, LinuxVma<F>>)> Kernel<F> for T {}
