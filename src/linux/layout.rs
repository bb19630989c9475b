//! [`Layout`]: the size of an address space, and where searches for free ranges begin.

use super::PageRange;
use crate::{Direction, Errno, Error, PageSize};

/// The shape of an address space (`arch_pick_mmap_layout`). All addresses and sizes are in bytes.
///
/// Start from [`x86_64`](Self::x86_64), and change what the kernel wants otherwise:
///
/// ```
/// use kvma::linux::Layout;
///
/// let stack_limit = 8 << 20;
/// let layout = Layout::x86_64(stack_limit);
/// assert_eq!(layout.base(), 0x7fff_f7ff_f000);
/// let randomised = layout.randomised(0x1234, 28);
/// assert_eq!(randomised.base(), layout.base() - 0x123_4000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    page_size: PageSize,
    task_size: u64,
    base: u64,
    bottom: u64,
    min_addr: u64,
    user_min_addr: u64,
    guard_gap: u64,
    huge: u64,
    protection_keys: u32,
    direction: Direction,
}

/// The smallest distance of the mmap base from the top (`MIN_GAP`). The largest is five sixths of
/// the space (`MAX_GAP`).
const MIN_GAP: u64 = 128 << 20;

/// The largest number of protection keys: that of x86-64, whose VMAs have four bits for them.
const MAX_KEYS: u32 = 16;

impl Layout {
    /// Returns the layout of x86-64 with 47-bit user space and no randomisation.
    ///
    /// A stack of `stack_limit` bytes fits above the mmap base, as far as that leaves a sixth of
    /// the space below. `u64::MAX` is no limit; that is no special case here, though on other
    /// processors it makes Linux search bottom-up.
    pub const fn x86_64(stack_limit: u64) -> Self {
        // All layouts are of this size. With half of the 64 bits unused, an address plus a length
        // that passed the checks never wraps.
        let task_size = (1 << 47) - 4096;
        let guard_gap = 256 * 4096;
        let max_gap = task_size / 6 * 5;
        let gap = match stack_limit.saturating_add(guard_gap) {
            gap if gap < MIN_GAP => MIN_GAP,
            gap if gap > max_gap => max_gap,
            gap => gap,
        };
        Self {
            page_size: PageSize::SIZE_4K,
            task_size,
            base: round_up(task_size - gap, 4096),
            bottom: round_up(task_size / 3, 4096),
            min_addr: 0x1_0000,
            user_min_addr: 4096,
            guard_gap,
            huge: 2 << 20,
            protection_keys: 16,
            direction: Direction::TopDown,
        }
    }

    /// Starts the top-down search below `base`, which the kernel may have chosen at random.
    #[must_use]
    pub const fn with_base(self, base: u64) -> Self {
        Self { base, ..self }
    }

    /// Starts the bottom-up search at `bottom`.
    #[must_use]
    pub const fn with_bottom(self, bottom: u64) -> Self {
        Self { bottom, ..self }
    }

    /// Moves both ends of the searches by a random number of pages: the lowest `bits` bits of
    /// `random`.
    ///
    /// The top-down search starts that much lower, the bottom-up search that much higher. Linux
    /// takes 28 bits on x86-64; at most 32 are taken here.
    #[must_use]
    pub const fn randomised(self, random: u64, bits: u32) -> Self {
        let mask = (1 << if bits < 32 { bits } else { 32 }) - 1;
        let below = (random & mask) << self.page_size.shift();
        let (base, bottom) = (self.base.saturating_sub(below), self.bottom.saturating_add(below));
        Self { base, bottom, ..self }
    }

    /// Sets the lowest address that a search returns, a hint may name, and a stack grows down to.
    ///
    /// It is `mmap_min_addr`: the larger of `vm.mmap_min_addr` and `CONFIG_LSM_MMAP_MIN_ADDR`.
    #[must_use]
    pub const fn with_min_addr(self, min_addr: u64) -> Self {
        Self { min_addr, ..self }
    }

    /// Sets the lowest address that may be asked for without privileges (`vm.mmap_min_addr`).
    #[must_use]
    pub const fn with_user_min_addr(self, user_min_addr: u64) -> Self {
        Self { user_min_addr, ..self }
    }

    /// Sets the size of the huge pages that large mappings are aligned to; 0 for no alignment.
    #[must_use]
    pub const fn with_huge_pages(self, huge: u64) -> Self {
        Self { huge, ..self }
    }

    /// Sets the distance that stacks keep from what lies below them (`stack_guard_gap`).
    #[must_use]
    pub const fn with_guard_gap(self, guard_gap: u64) -> Self {
        Self { guard_gap, ..self }
    }

    /// Sets the number of the processor's protection keys, at most 16: 0 on a processor without
    /// them, where `pkey_alloc(2)` and the like are `EINVAL` (`X86_FEATURE_OSPKE`).
    #[must_use]
    pub const fn with_protection_keys(self, protection_keys: u32) -> Self {
        Self { protection_keys, ..self }
    }

    /// Sets the end from which mmap hands out addresses.
    ///
    /// `BottomUp` is what Linux does for `personality(ADDR_COMPAT_LAYOUT)` and with
    /// `vm.legacy_va_layout`.
    #[must_use]
    pub const fn with_direction(self, direction: Direction) -> Self {
        Self { direction, ..self }
    }

    /// Returns where the stack of a new program starts and ends (`setup_arg_pages`).
    ///
    /// It has room for `used` bytes of arguments and environment, and for 128 KiB below them as far
    /// as `limit` allows, which is `RLIMIT_STACK`.
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

    /// Refuses a layout that the calls could not compute with.
    pub(super) fn check(&self) -> Result<(), Error> {
        let aligned = [self.base, self.bottom, self.min_addr, self.guard_gap];
        if !aligned.iter().all(|&n| self.page_size.is_aligned(n))
            || !(self.huge == 0 || self.huge.is_power_of_two())
        {
            return Err(Error::Unaligned);
        }
        let inside =
            self.base <= self.task_size && self.bottom <= self.task_size && self.huge <= 1 << 40;
        let inside = inside && self.protection_keys <= MAX_KEYS;
        if inside { Ok(()) } else { Err(Error::OutOfRange) }
    }

    /// Returns the page size.
    pub const fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the first address above user space (`TASK_SIZE`).
    pub const fn task_size(&self) -> u64 {
        self.task_size
    }

    /// Returns where the top-down search begins (`mmap_base`).
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Returns where the bottom-up search begins (`mmap_legacy_base`).
    pub const fn bottom(&self) -> u64 {
        self.bottom
    }

    /// Returns the lowest address that a search returns or a hint may name.
    pub const fn min_addr(&self) -> u64 {
        self.min_addr
    }

    /// Returns the lowest address that may be asked for without privileges.
    pub const fn user_min_addr(&self) -> u64 {
        self.user_min_addr
    }

    /// Returns the distance that stacks keep from what lies below them.
    pub const fn guard_gap(&self) -> u64 {
        self.guard_gap
    }

    /// Returns the size of the huge pages that large mappings are aligned to, or 0.
    pub const fn huge(&self) -> u64 {
        self.huge
    }

    /// Returns the number of protection keys.
    pub const fn protection_keys(&self) -> u32 {
        self.protection_keys
    }

    /// Returns the end from which addresses are handed out.
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// Rounds up to a page, modulo 2^64 as `PAGE_ALIGN` does: nearly 2^64 becomes 0.
    pub(super) const fn page_up(&self, bytes: u64) -> u64 {
        round_up(bytes, self.page_size.bytes())
    }

    /// Rounds down to a page.
    pub(super) const fn page_down(&self, bytes: u64) -> u64 {
        self.page_size.round_down(bytes)
    }

    pub(super) const fn is_aligned(&self, addr: u64) -> bool {
        self.page_size.is_aligned(addr)
    }

    /// Returns the number of whole pages in `bytes`, or the page that holds that address.
    pub(super) const fn pages(&self, bytes: u64) -> u64 {
        bytes >> self.page_size.shift()
    }

    /// Returns the bytes in so many pages, or the first byte of that page. Modulo 2^64.
    pub(super) const fn bytes(&self, pages: u64) -> u64 {
        pages << self.page_size.shift()
    }

    /// Returns the pages of user space.
    pub(super) const fn user_space(&self) -> PageRange {
        PageRange::new(0, self.pages(self.task_size))
    }

    /// Returns the pages in `len` bytes from `addr`, both page-aligned, that lie below 2^64.
    pub(super) const fn range(&self, addr: u64, len: u64) -> PageRange {
        let start = self.pages(addr);
        PageRange::new(start, start + self.pages(len))
    }

    /// Returns the pages in `len` bytes from the aligned `addr`. The length is rounded up, modulo
    /// 2^64; `None` if the range then reaches 2^64.
    pub(super) const fn rounded_range(&self, addr: u64, len: u64) -> Option<PageRange> {
        let len = self.page_up(len);
        if addr.checked_add(len).is_some() { Some(self.range(addr, len)) } else { None }
    }

    /// Checks the range of madvise and the like: `EINVAL` if `addr` is not aligned, the length
    /// rounds to 0 without being 0, or the range reaches 2^64.
    pub(super) fn checked_range(&self, addr: u64, len: u64) -> Result<PageRange, Errno> {
        self.rounded_range(addr, len)
            .filter(|range| self.is_aligned(addr) && (len == 0 || !range.is_empty()))
            .ok_or(Errno::EINVAL)
    }

    /// Checks the range of munmap: `EINVAL` if `addr` is not aligned, the range is empty, or it
    /// leaves user space.
    pub(super) fn user_range(&self, addr: u64, len: u64) -> Result<PageRange, Errno> {
        self.within_user_space(self.checked_range(addr, len)?)
    }

    /// Answers `EINVAL` for a range that is empty or leaves user space.
    pub(super) fn within_user_space(&self, range: PageRange) -> Result<PageRange, Errno> {
        if range.is_empty() || range.end > self.user_space().end {
            return Err(Errno::EINVAL);
        }
        Ok(range)
    }
}

/// Rounds up to a multiple of `to`, a power of two, modulo 2^64.
pub(super) const fn round_up(bytes: u64, to: u64) -> u64 {
    bytes.wrapping_add(to - 1) & !(to - 1)
}
