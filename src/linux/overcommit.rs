//! How strict a kernel is about committing memory (`vm.overcommit_memory`).

use super::kernel::Capabilities;
use super::limits::Usage;
use crate::Errno;

/// The mode of `vm.overcommit_memory`.
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
    /// Decides whether `pages` more pages may be committed, as `__vm_enough_memory` does.
    ///
    /// All in pages: `committed` is what all processes together are charged for, those asked for
    /// included; `memory` is RAM plus swap; `limit` is [`CommitLimit::pages`], which counts in mode
    /// 2 only.
    ///
    /// # Errors
    ///
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

/// How much may be committed in mode 2 (`vm_commit_limit`), and how much of it is kept back
/// (`__vm_enough_memory`). All in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitLimit {
    all: u64,
    admin_reserve: u64,
    user_reserve: u64,
}

impl CommitLimit {
    /// Allows `percent` of the RAM that is not set aside for huge pages (`vm.overcommit_ratio`,
    /// 50), and all of the swap space.
    pub const fn of_ram(ram: u64, huge_pages: u64, percent: u64, swap: u64) -> Self {
        Self::of_pages(ram.saturating_sub(huge_pages).saturating_mul(percent) / 100, swap)
    }

    /// Allows so much RAM (`vm.overcommit_kbytes`), and all of the swap space.
    pub const fn of_pages(ram: u64, swap: u64) -> Self {
        Self { all: ram.saturating_add(swap), admin_reserve: 0, user_reserve: 0 }
    }

    /// Keeps pages back: `admin` for callers with `CAP_SYS_ADMIN` (`vm.admin_reserve_kbytes`,
    /// 8 MiB), and `user` so that one process cannot take all (`vm.user_reserve_kbytes`, 128 MiB).
    ///
    /// Of the latter, no more counts than a 32nd of the process itself. Linux starts with 3 % of
    /// the free memory where that is less than the sizes above.
    #[must_use]
    pub const fn with_reserves(self, admin: u64, user: u64) -> Self {
        Self { admin_reserve: admin, user_reserve: user, ..self }
    }

    /// Returns the whole limit (`CommitLimit` of `/proc/meminfo`).
    pub const fn all(&self) -> u64 {
        self.all
    }

    /// Returns the limit for a process that uses `usage`.
    pub fn pages(&self, usage: &Usage, caps: Capabilities) -> u64 {
        let admin = if caps.contains(Capabilities::SYS_ADMIN) { 0 } else { self.admin_reserve };
        // So that one process does not leave its user without the means to end it.
        let user = self.user_reserve.min(usage.total() / 32);
        self.all.saturating_sub(admin).saturating_sub(user)
    }
}
