//! Pages and page-aligned ranges.
//!
//! Inside the crate everything counts in pages, so that the very last page of a 64-bit space has an
//! end that fits in a word. Bytes appear only in the public calls, and are converted here.

use crate::error::Error;
use crate::position::Position;
use core::fmt;

/// The size of a page: a power of two, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageSize {
    shift: u8,
}

impl PageSize {
    /// 4 KiB.
    pub const SIZE_4K: PageSize = PageSize { shift: 12 };
    /// 16 KiB.
    pub const SIZE_16K: PageSize = PageSize { shift: 14 };
    /// 64 KiB.
    pub const SIZE_64K: PageSize = PageSize { shift: 16 };

    /// Any power of two, one included. [`Error::Unaligned`] for other numbers.
    pub const fn new(bytes: u64) -> Result<PageSize, Error> {
        if bytes.is_power_of_two() {
            Ok(PageSize { shift: bytes.trailing_zeros() as u8 })
        } else {
            Err(Error::Unaligned)
        }
    }

    /// Bytes in a page.
    pub const fn bytes(self) -> u64 {
        1 << self.shift
    }

    /// log2 of [`bytes`](Self::bytes).
    pub const fn shift(self) -> u32 {
        self.shift as u32
    }

    /// Whether `addr` is a multiple of the page size.
    pub const fn is_aligned(self, addr: u64) -> bool {
        addr & (self.bytes() - 1) == 0
    }

    /// The smallest multiple of the page size that is not below `bytes`; `None` beyond 64 bits.
    /// What mmap(2), munmap(2) and mprotect(2) do to lengths; the calls of this crate refuse
    /// unaligned ones.
    pub const fn round_up(self, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(self.bytes())
    }

    /// The largest multiple of the page size that is not above `bytes`.
    pub const fn round_down(self, bytes: u64) -> u64 {
        bytes & !(self.bytes() - 1)
    }

    /// The page that holds `addr`.
    pub(crate) const fn page(self, addr: u64) -> u64 {
        addr >> self.shift
    }

    /// The first byte of `page`. The caller knows that the page exists, so nothing is lost.
    pub(crate) const fn addr(self, page: u64) -> u64 {
        page << self.shift
    }

    /// Pages of an aligned, non-zero byte length.
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
pub(crate) struct Span<P = u64> {
    pub(crate) start: P,
    pub(crate) end: P,
}

impl<P: Position> Span<P> {
    pub(crate) const fn new(start: P, end: P) -> Self {
        Span { start, end }
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
        Span { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

/// A page-aligned range of an address space, in bytes. Never empty.
///
/// It may end at the last byte of the 64-bit space, where a byte length or an end would not fit in
/// a `u64`: [`last`](Self::last) always answers, [`end`](Self::end) and [`len`](Self::len) are
/// checked.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VmRange {
    start: u64,
    pages: u64,
    page: PageSize,
}

impl VmRange {
    /// A range of `pages` pages from the byte address `start`.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], or [`Error::OutOfRange`] when its last byte
    /// would lie beyond `u64::MAX` (with pages of one byte: at `u64::MAX`).
    pub fn new(start: u64, pages: u64, page: PageSize) -> Result<VmRange, Error> {
        if pages == 0 {
            return Err(Error::ZeroLength);
        }
        if !page.is_aligned(start) {
            return Err(Error::Unaligned);
        }
        // With pages of one byte the end itself must fit, too.
        let end = page.page(start).checked_add(pages).ok_or(Error::OutOfRange)?;
        if end - 1 > page.page(u64::MAX) {
            return Err(Error::OutOfRange);
        }
        Ok(VmRange { start, pages, page })
    }

    pub(crate) fn from_span(span: Span, page: PageSize) -> VmRange {
        VmRange { start: page.addr(span.start), pages: span.len(), page }
    }

    pub(crate) fn span(self) -> Span {
        let start = self.page.page(self.start);
        Span::new(start, start + self.pages)
    }

    /// First byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Length in pages; at least one.
    pub const fn pages(self) -> u64 {
        self.pages
    }

    /// The page size that the range counts in.
    pub const fn page_size(self) -> PageSize {
        self.page
    }

    /// Last byte.
    pub const fn last(self) -> u64 {
        // `new` has checked that the last page exists.
        self.start + ((self.pages - 1) << self.page.shift) + (self.page.bytes() - 1)
    }

    /// One past the last byte; `None` where that is 2^64.
    pub const fn end(self) -> Option<u64> {
        self.last().checked_add(1)
    }

    /// Length in bytes; `None` where that is 2^64.
    pub const fn len(self) -> Option<u64> {
        (self.last() - self.start).checked_add(1)
    }

    /// Never: a range has at least one page.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Whether `addr` lies in the range.
    pub const fn contains(self, addr: u64) -> bool {
        self.start <= addr && addr <= self.last()
    }

    /// Whether the two share a byte.
    pub const fn overlaps(self, other: VmRange) -> bool {
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
