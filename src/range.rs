//! Page sizes and page-aligned ranges.
//!
//! Public calls speak of bytes. Inside the crate everything counts in pages, so that the very last
//! page of a 64-bit space has an end that fits in a word; the two are converted here.

use core::fmt;

use crate::error::Error;
use crate::position::Position;

/// A page size: a power of two, in bytes.
///
/// ```
/// use kvma::{Error, PageSize};
///
/// let page = PageSize::new(16 << 10)?;
/// assert_eq!(page.round_up(1), Some(0x4000));
/// assert_eq!(page.round_up(u64::MAX), None);
/// assert_eq!(PageSize::new(3000), Err(Error::Unaligned));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageSize {
    shift: u8,
}

impl PageSize {
    /// 4 KiB.
    pub const SIZE_4K: Self = Self { shift: 12 };
    /// 16 KiB.
    pub const SIZE_16K: Self = Self { shift: 14 };
    /// 64 KiB.
    pub const SIZE_64K: Self = Self { shift: 16 };

    /// Returns the page size of `bytes` bytes, any power of two, one included.
    ///
    /// # Errors
    ///
    /// [`Error::Unaligned`] for other numbers.
    pub const fn new(bytes: u64) -> Result<Self, Error> {
        if bytes.is_power_of_two() {
            Ok(Self { shift: bytes.trailing_zeros() as u8 })
        } else {
            Err(Error::Unaligned)
        }
    }

    /// Returns the number of bytes in a page.
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// Returns the base-2 logarithm of [`bytes`](Self::bytes).
    pub const fn shift(self) -> u32 {
        self.shift as u32
    }

    /// Returns `true` if `addr` is a multiple of the page size.
    pub const fn is_aligned(self, addr: u64) -> bool {
        addr & (self.bytes() - 1) == 0
    }

    /// Rounds up to a multiple of the page size; `None` beyond 64 bits.
    ///
    /// mmap(2), munmap(2) and mprotect(2) do this to lengths. The calls of this crate refuse
    /// unaligned lengths.
    pub const fn round_up(self, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(self.bytes())
    }

    /// Rounds down to a multiple of the page size.
    pub const fn round_down(self, bytes: u64) -> u64 {
        bytes & !(self.bytes() - 1)
    }

    /// Returns the number of the page that holds `addr`.
    pub(crate) const fn page(self, addr: u64) -> u64 {
        addr >> self.shift
    }

    /// Returns the first byte of `page`, which the caller knows to exist.
    pub(crate) const fn addr(self, page: u64) -> u64 {
        page << self.shift
    }

    /// Converts an aligned, non-zero length in bytes to pages.
    pub(crate) const fn pages(self, len: u64) -> Result<u64, Error> {
        if len == 0 {
            Err(Error::ZeroLength)
        } else if !self.is_aligned(len) {
            Err(Error::Unaligned)
        } else {
            Ok(len >> self.shift)
        }
    }
}

impl fmt::Debug for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageSize({:#x})", self.bytes())
    }
}

/// A half-open range of pages `[start, end)`, in page numbers; or of keys, by their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange<P = u64> {
    pub(crate) start: P,
    pub(crate) end: P,
}

impl<P: Position> PageRange<P> {
    pub(crate) const fn new(start: P, end: P) -> Self {
        Self { start, end }
    }

    #[inline]
    pub(crate) fn len(self) -> P {
        self.end.saturating_sub(self.start)
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    #[inline]
    pub(crate) fn intersect(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

impl PageRange {
    /// Returns the range moved so that its page `from` comes to lie at `to`.
    #[inline]
    pub(crate) fn moved(self, from: u64, to: u64) -> Self {
        Self { start: self.start - from + to, end: self.end - from + to }
    }
}

/// A page-aligned range of an address space, in bytes. Never empty.
///
/// It may end at the last byte of the 64-bit space, where a length or an end would not fit in a
/// `u64`: [`last`](Self::last) always answers, [`end`](Self::end) and [`len`](Self::len) are
/// checked.
///
/// ```
/// use kvma::{PageSize, VmRange};
///
/// let range = VmRange::new(0x5000, 0x3000, PageSize::SIZE_4K)?;
/// assert_eq!((range.start(), range.last(), range.len()), (0x5000, 0x7fff, Some(0x3000)));
/// assert!(range.pages().eq([0x5000, 0x6000, 0x7000]));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VmRange {
    start: u64,
    count: u64,
    page_size: PageSize,
}

impl VmRange {
    /// Returns the range of `len` bytes from `start`, both multiples of the page size.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], or [`Error::OutOfRange`] if its last byte would
    /// lie beyond `u64::MAX` (with pages of one byte: at `u64::MAX`).
    pub fn new(start: u64, len: u64, page_size: PageSize) -> Result<Self, Error> {
        let count = page_size.pages(len)?;
        if !page_size.is_aligned(start) {
            return Err(Error::Unaligned);
        }
        // With pages of one byte the end itself must fit, too.
        let end = page_size.page(start).checked_add(count).ok_or(Error::OutOfRange)?;
        if end - 1 > page_size.page(u64::MAX) {
            return Err(Error::OutOfRange);
        }
        Ok(Self { start, count, page_size })
    }

    /// Returns the range from the first byte `first` to the last byte `last`, which may be
    /// `u64::MAX`.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`] if `last` lies below `first`; [`Error::Unaligned`] if the range does
    /// not begin and end with a page; [`Error::OutOfRange`] if it ends at `u64::MAX` with pages of
    /// one byte.
    pub fn from_bounds(first: u64, last: u64, page_size: PageSize) -> Result<Self, Error> {
        if last < first {
            return Err(Error::ZeroLength);
        }
        if !page_size.is_aligned(first) || !page_size.is_aligned(last.wrapping_add(1)) {
            return Err(Error::Unaligned);
        }
        let count = page_size.page(last) - page_size.page(first);
        if last == u64::MAX && page_size.shift == 0 {
            return Err(Error::OutOfRange);
        }
        Ok(Self { start: first, count: count + 1, page_size })
    }

    #[inline]
    pub(crate) fn from_pages(pages: PageRange, page_size: PageSize) -> Self {
        // The end lies above the start.
        let count = pages.end.wrapping_sub(pages.start);
        Self { start: page_size.addr(pages.start), count, page_size }
    }

    #[inline]
    pub(crate) fn page_range(self) -> PageRange {
        let start = self.page_size.page(self.start);
        PageRange::new(start, start + self.count)
    }

    /// Returns the first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the number of pages; at least one.
    pub const fn page_count(self) -> u64 {
        self.count
    }

    /// Iterates over the first byte of each page, ascending.
    pub fn pages(self) -> impl DoubleEndedIterator<Item = u64> + Clone {
        let PageRange { start, end } = self.page_range();
        (start..end).map(move |number| self.page_size.addr(number))
    }

    /// Returns the page size that the range is a multiple of.
    pub const fn page_size(self) -> PageSize {
        self.page_size
    }

    /// Returns the last byte.
    #[inline]
    pub const fn last(self) -> u64 {
        // The constructors have checked that the last page exists. The end, and the length of a
        // whole space, may be 2^64, of which zero is left.
        self.start.wrapping_add(self.count << self.page_size.shift).wrapping_sub(1)
    }

    /// Returns the address right behind the last byte; `None` where that is 2^64.
    pub const fn end(self) -> Option<u64> {
        self.last().checked_add(1)
    }

    /// Returns the length in bytes; `None` where that is 2^64.
    pub const fn len(self) -> Option<u64> {
        (self.last() - self.start).checked_add(1)
    }

    /// Returns `false`: a range has at least one page.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Returns `true` if `addr` lies in the range.
    #[inline]
    pub const fn contains(self, addr: u64) -> bool {
        self.start <= addr && addr <= self.last()
    }

    /// Returns `true` if the two ranges share a byte.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.last() && other.start <= self.last()
    }
}

impl fmt::Debug for VmRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.start(), self.last())
    }
}

impl fmt::Display for VmRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
