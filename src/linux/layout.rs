//! Where things go in one program's address space.

use crate::{Errno, Error, PageSize};

/// From which end mmap hands out addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// Below the stack, downwards.
    TopDown,
    /// From a third of the space upwards: what Linux does for `personality(ADDR_COMPAT_LAYOUT)` and
    /// with `vm.legacy_va_layout`.
    BottomUp,
}

/// The shape of an address space (`arch_pick_mmap_layout`). Addresses in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    page: PageSize,
    task_size: u64,
    base: u64,
    bottom: u64,
    min_addr: u64,
    user_min_addr: u64,
    guard_gap: u64,
    huge: u64,
    growth: Growth,
}

/// Smallest and, as a share of the space, largest distance of the mmap base from the top
/// (`MIN_GAP`, `MAX_GAP`).
const MIN_GAP: u64 = 128 << 20;

impl Layout {
    /// x86-64 with 47-bit user space and no randomisation, for a stack of at most `stack_limit`
    /// bytes: all of it lies above the mmap base, as far as that leaves a sixth of the space below.
    /// `u64::MAX` is unlimited, and no exception (on other processors it makes Linux search
    /// bottom-up).
    pub const fn x86_64(stack_limit: u64) -> Self {
        let task_size = (1 << 47) - 4096;
        let guard_gap = 256 * 4096;
        let max_gap = task_size / 6 * 5;
        let gap = match stack_limit.saturating_add(guard_gap) {
            gap if gap < MIN_GAP => MIN_GAP,
            gap if gap > max_gap => max_gap,
            gap => gap,
        };
        Self {
            page: PageSize::SIZE_4K,
            task_size,
            base: round_up(task_size - gap, 4096),
            bottom: round_up(task_size / 3, 4096),
            min_addr: 0x1_0000,
            user_min_addr: 4096,
            guard_gap,
            huge: 2 << 20,
            growth: Growth::TopDown,
        }
    }

    /// The same with the top-down search starting below `base`, which the owner may have chosen at
    /// random.
    #[must_use]
    pub const fn with_base(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// The same with the bottom-up search starting at `bottom`.
    #[must_use]
    pub const fn with_bottom(self, bottom: u64) -> Self {
        Self { bottom, ..self }
    }

    /// The same with the top-down search starting at one of 2 to the `bits` places, by the owner's
    /// random number: as many pages lower as its low bits say. Linux takes 28 bits on x86-64, and
    /// at most 32 are taken here.
    #[must_use]
    pub const fn randomised(self, random: u64, bits: u32) -> Self {
        let mask = (1 << if bits < 32 { bits } else { 32 }) - 1;
        let below = (random & mask) << self.page.shift();
        Self { base: self.base.saturating_sub(below), bottom: self.bottom + below, ..self }
    }

    /// The same with another lowest address that a search or a hint comes to, and a stack grows to
    /// (`mmap_min_addr`: the larger of the two that `vm.mmap_min_addr` and
    /// `CONFIG_LSM_MMAP_MIN_ADDR` say).
    #[must_use]
    pub const fn with_min_addr(self, min_addr: u64) -> Self {
        Self { min_addr, ..self }
    }

    /// The same with another lowest address that may be asked for without privileges
    /// (`vm.mmap_min_addr`).
    #[must_use]
    pub const fn with_user_min_addr(self, user_min_addr: u64) -> Self {
        Self { user_min_addr, ..self }
    }

    /// The same with another size of huge pages, to which large mappings are aligned; 0 for no
    /// alignment.
    #[must_use]
    pub const fn with_huge_pages(self, huge: u64) -> Self {
        Self { huge, ..self }
    }

    /// The same with another distance that stacks keep from what lies below (`stack_guard_gap`), in
    /// bytes.
    #[must_use]
    pub const fn with_guard_gap(self, guard_gap: u64) -> Self {
        Self { guard_gap, ..self }
    }

    /// The same, searched from the other end.
    #[must_use]
    pub const fn with_growth(self, growth: Growth) -> Self {
        Self { growth, ..self }
    }

    /// Where a new program's stack starts and ends (`setup_arg_pages`): `used` bytes for arguments
    /// and environment, and 128 KiB below them as far as `limit`, which is RLIMIT_STACK, allows.
    pub const fn stack(&self, used: u64, limit: u64) -> (u64, u64) {
        const EXTRA: u64 = 128 << 10;
        let top = self.task_size;
        let used = self.page_up(used);
        let limit = self.page_down(limit);
        let wanted = used.saturating_add(EXTRA);
        let size = if wanted <= limit {
            wanted
        } else if limit > used {
            limit
        } else {
            used
        };
        (top.saturating_sub(size), top)
    }

    /// Refuses what the calls could not compute with.
    pub(super) fn check(&self) -> Result<(), Error> {
        let aligned = [self.task_size, self.base, self.bottom, self.min_addr, self.guard_gap];
        if !aligned.iter().all(|&n| self.page.is_aligned(n))
            || !(self.huge == 0 || self.huge.is_power_of_two())
        {
            return Err(Error::Unaligned);
        }
        let inside =
            self.base <= self.task_size && self.bottom <= self.task_size && self.huge <= 1 << 40;
        // With half of the 64 bits to spare, an address plus a length that passed the checks never
        // wraps.
        if inside && self.task_size < 1 << 63 { Ok(()) } else { Err(Error::OutOfRange) }
    }

    /// The page size.
    pub const fn page_size(&self) -> PageSize {
        self.page
    }

    /// First address that is not user space's (`TASK_SIZE`).
    pub const fn task_size(&self) -> u64 {
        self.task_size
    }

    /// Where the top-down search begins (`mmap_base`).
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Where the bottom-up search begins (`mmap_legacy_base`).
    pub const fn bottom(&self) -> u64 {
        self.bottom
    }

    /// Lowest address that a search or a hint comes to.
    pub const fn min_addr(&self) -> u64 {
        self.min_addr
    }

    /// Lowest address that may be asked for without privileges.
    pub const fn user_min_addr(&self) -> u64 {
        self.user_min_addr
    }

    /// Bytes that stacks keep free below them.
    pub const fn guard_gap(&self) -> u64 {
        self.guard_gap
    }

    /// Size of the huge pages to which large mappings are aligned, or 0.
    pub const fn huge(&self) -> u64 {
        self.huge
    }

    /// From which end addresses are handed out.
    pub const fn growth(&self) -> Growth {
        self.growth
    }

    /// Rounds up to a page, modulo 2^64 as `PAGE_ALIGN` does: what is nearly 2^64 becomes 0.
    pub(super) const fn page_up(&self, bytes: u64) -> u64 {
        round_up(bytes, self.page.bytes())
    }

    /// Rounds down to a page.
    pub(super) const fn page_down(&self, bytes: u64) -> u64 {
        bytes & !(self.page.bytes() - 1)
    }

    pub(super) const fn is_aligned(&self, addr: u64) -> bool {
        self.page.is_aligned(addr)
    }

    /// Whole pages in `bytes`.
    pub(super) const fn pages(&self, bytes: u64) -> u64 {
        bytes >> self.page.shift()
    }

    /// The first byte of page `page`, modulo 2^64.
    pub(super) const fn bytes(&self, pages: u64) -> u64 {
        pages << self.page.shift()
    }

    /// `start` and `len`, page-aligned, as a range of user space; `EINVAL` as munmap says it.
    pub(super) fn user_range(&self, start: u64, len: u64) -> Result<(u64, u64), Errno> {
        let room = self.task_size.checked_sub(start).ok_or(Errno::EINVAL)?;
        let rounded = self.page_up(len);
        if !self.is_aligned(start) || len > room || rounded == 0 {
            return Err(Errno::EINVAL);
        }
        Ok((start, start + rounded))
    }
}

const fn round_up(bytes: u64, to: u64) -> u64 {
    bytes.wrapping_add(to - 1) & !(to - 1)
}
