//! How strict a kernel is about committing memory (`vm.overcommit_memory`).

use super::kernel::Capabilities;
use super::limits::Usage;
use crate::{Errno, PageSize};

/// The mode of `vm.overcommit_memory`.
///
/// ```
/// use kvma::linux::Overcommit;
///
/// /// `vm.overcommit_memory`, as it is written to /proc/sys.
/// fn mode(text: &str) -> Option<Overcommit> {
///     match text.trim() {
///         "0" => Some(Overcommit::Heuristic),
///         "1" => Some(Overcommit::Always),
///         "2" => Some(Overcommit::Never),
///         _ => None,
///     }
/// }
///
/// // 8 GiB at once, on a machine with 4 GiB.
/// let decide = |mode: Overcommit| mode.decide(8 << 30, 9 << 30, 4 << 30, u64::MAX);
/// assert!(mode("0\n").is_some_and(|mode| decide(mode).is_err()));
/// assert!(mode("1\n").is_some_and(|mode| decide(mode).is_ok()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overcommit {
    /// 0: refuses only what alone exceeds all memory.
    #[default]
    Heuristic,
    /// 1: refuses nothing.
    Always,
    /// 2: refuses what exceeds the commit limit, even if it said `MAP_NORESERVE`.
    Never,
}

impl Overcommit {
    /// Decides whether `bytes` more bytes may be committed, as `__vm_enough_memory` does.
    ///
    /// All in bytes: `committed` is what all processes together are charged for, those asked for
    /// included; `memory` is RAM plus swap; `limit` is [`CommitLimit::for_process`], which counts
    /// in mode 2 only.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn decide(self, bytes: u64, committed: u64, memory: u64, limit: u64) -> Result<(), Errno> {
        let enough = match self {
            Self::Always => true,
            Self::Heuristic => bytes <= memory,
            Self::Never => committed < limit,
        };
        if enough { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

/// How much may be committed in mode 2 (`vm_commit_limit`), and how much of it is kept back
/// (`__vm_enough_memory`).
///
/// All in bytes, but Linux computes it in whole pages: what is left over at each step does not
/// count.
///
/// ```
/// use kvma::PageSize;
/// use kvma::linux::{Capabilities, CommitLimit, Overcommit, Usage};
///
/// // 16 GiB of RAM, half of which may be committed, and 2 GiB of swap space.
/// let limit = CommitLimit::of_ram(PageSize::SIZE_4K, 16 << 30, 0, 50, 2 << 30);
/// assert_eq!(limit.all(), 10 << 30);
/// let limit = limit.for_process(&Usage::default(), Capabilities::empty());
/// assert!(Overcommit::Never.decide(4096, 4096, 18 << 30, limit).is_ok());
/// assert!(Overcommit::Never.decide(4096, 10 << 30, 18 << 30, limit).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitLimit {
    page_size: PageSize,
    all: u64,
    admin_reserve: u64,
    user_reserve: u64,
}

impl CommitLimit {
    /// Allows `percent` of the RAM that is not set aside for huge pages (`vm.overcommit_ratio`,
    /// 50), and all of the swap space. Bytes.
    pub const fn of_ram(
        page_size: PageSize,
        ram: u64,
        huge_pages: u64,
        percent: u64,
        swap: u64,
    ) -> Self {
        let ram = ram.saturating_sub(huge_pages) >> page_size.shift();
        let pages = ram.saturating_mul(percent) / 100;
        Self::of_bytes(page_size, pages.saturating_mul(page_size.bytes()), swap)
    }

    /// Allows so much RAM (`vm.overcommit_kbytes`), and all of the swap space. Bytes.
    pub const fn of_bytes(page_size: PageSize, ram: u64, swap: u64) -> Self {
        let all = page_size.round_down(ram).saturating_add(page_size.round_down(swap));
        Self { page_size, all, admin_reserve: 0, user_reserve: 0 }
    }

    /// Keeps bytes back: `admin` for callers with `CAP_SYS_ADMIN` (`vm.admin_reserve_kbytes`,
    /// 8 MiB), and `user` so that one process cannot take all (`vm.user_reserve_kbytes`, 128 MiB).
    ///
    /// Of the latter, no more counts than a 32nd of the process itself. Linux starts with 3 % of
    /// the free memory where that is less than the sizes above.
    #[must_use]
    pub const fn with_reserves(self, admin: u64, user: u64) -> Self {
        let page_size = self.page_size;
        let (admin_reserve, user_reserve) =
            (page_size.round_down(admin), page_size.round_down(user));
        Self { admin_reserve, user_reserve, ..self }
    }

    /// Returns the whole limit in bytes (`CommitLimit` of `/proc/meminfo`).
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// Returns the limit in bytes for a process that uses `usage`.
    pub fn for_process(&self, usage: &Usage, caps: Capabilities) -> u64 {
        let admin = if caps.contains(Capabilities::SYS_ADMIN) { 0 } else { self.admin_reserve };
        // So that one process does not leave its user without the means to end it.
        let user = self.user_reserve.min(self.page_size.round_down(usage.total() / 32));
        self.all.saturating_sub(admin).saturating_sub(user)
    }
}
