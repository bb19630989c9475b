//! An area, and how it is split.

use core::fmt;
use core::ops::Range;

use ax_memory_addr::AddrRange;
use kvma_area_set::{Area, PageTable};

use crate::{MappingBackend, MappingError, MappingResult};

/// A range of addresses with the same flags and a backend.
#[derive(Clone)]
pub struct MemoryArea<B: MappingBackend> {
    va_range: AddrRange<B::Addr>,
    flags: Flags<B::Flags>,
    max_flags: B::Flags,
    pub(crate) backend: B,
}

/// The flags for the page table, and those that are shown to programs.
#[derive(Clone, Copy)]
pub(crate) struct Flags<F> {
    pub(crate) flags: F,
    pub(crate) reported: F,
}

impl<B: MappingBackend> MemoryArea<B> {
    /// Creates an area of `size` bytes, which is in no set yet.
    ///
    /// # Panics
    ///
    /// If `start + size` overflows, as that of `ax-memory-set` does.
    pub fn new(start: B::Addr, size: usize, flags: B::Flags, backend: B) -> Self {
        Self::new_with_reported_flags(start, size, flags, flags, backend)
    }

    /// Creates an area that shows programs other flags than it has.
    ///
    /// # Panics
    ///
    /// Those of [`new`](Self::new).
    pub fn new_with_reported_flags(
        start: B::Addr,
        size: usize,
        flags: B::Flags,
        reported_flags: B::Flags,
        backend: B,
    ) -> Self {
        Self::new_with_permissions(start, size, flags, reported_flags, flags, backend)
    }

    /// Creates an area with the largest flags that it may ever get, which only the kernel reads.
    ///
    /// # Panics
    ///
    /// Those of [`new`](Self::new).
    pub fn new_with_permissions(
        start: B::Addr,
        size: usize,
        flags: B::Flags,
        reported_flags: B::Flags,
        max_flags: B::Flags,
        backend: B,
    ) -> Self {
        let va_range = AddrRange::from_start_size(start, size);
        Self { va_range, flags: Flags { flags, reported: reported_flags }, max_flags, backend }
    }

    /// Creates an area, or says what is wrong with its range.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range is empty or wraps.
    pub fn try_new(
        start: B::Addr,
        size: usize,
        flags: B::Flags,
        backend: B,
    ) -> MappingResult<Self> {
        Self::try_new_with_reported_flags(start, size, flags, flags, backend)
    }

    /// Creates an area that shows programs other flags than it has.
    ///
    /// # Errors
    ///
    /// Those of [`try_new`](Self::try_new).
    pub fn try_new_with_reported_flags(
        start: B::Addr,
        size: usize,
        flags: B::Flags,
        reported_flags: B::Flags,
        backend: B,
    ) -> MappingResult<Self> {
        Self::try_new_with_permissions(start, size, flags, reported_flags, flags, backend)
    }

    /// Creates an area with the largest flags that it may ever get, which only the kernel reads.
    ///
    /// # Errors
    ///
    /// Those of [`try_new`](Self::try_new).
    pub fn try_new_with_permissions(
        start: B::Addr,
        size: usize,
        flags: B::Flags,
        reported_flags: B::Flags,
        max_flags: B::Flags,
        backend: B,
    ) -> MappingResult<Self> {
        let va_range =
            AddrRange::try_from_start_size(start, size).ok_or(MappingError::InvalidParam)?;
        if va_range.is_empty() {
            return Err(MappingError::InvalidParam);
        }
        let flags = Flags { flags, reported: reported_flags };
        Ok(Self { va_range, flags, max_flags, backend })
    }

    /// Returns the range.
    pub const fn va_range(&self) -> AddrRange<B::Addr> {
        self.va_range
    }

    /// Returns the flags for the page table.
    pub const fn flags(&self) -> B::Flags {
        self.flags.flags
    }

    /// Returns the flags that are shown to programs.
    pub const fn reported_flags(&self) -> B::Flags {
        self.flags.reported
    }

    /// Returns the largest flags that the area may get.
    pub const fn max_flags(&self) -> B::Flags {
        self.max_flags
    }

    /// Returns the first address.
    pub const fn start(&self) -> B::Addr {
        self.va_range.start
    }

    /// Returns the address behind the last one.
    pub const fn end(&self) -> B::Addr {
        self.va_range.end
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> usize {
        self.va_range.size()
    }

    /// Returns the backend.
    pub const fn backend(&self) -> &B {
        &self.backend
    }
}

impl<B: MappingBackend> fmt::Debug for MemoryArea<B>
where
    B::Addr: fmt::Debug,
    B::Flags: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryArea")
            .field("va_range", &self.va_range)
            .field("flags", &self.flags.flags)
            .field("reported_flags", &self.flags.reported)
            .field("max_flags", &self.max_flags)
            .finish()
    }
}

impl<B: MappingBackend> Area for MemoryArea<B> {
    type Flags = FlagsOf<B>;

    fn range(&self) -> Range<usize> {
        self.va_range.start.into()..self.va_range.end.into()
    }

    fn set_range(&mut self, range: Range<usize>) {
        self.va_range.start = range.start.into();
        self.va_range.end = range.end.into();
    }

    fn flags(&self) -> FlagsOf<B> {
        FlagsOf(self.flags)
    }

    fn set_flags(&mut self, flags: FlagsOf<B>) {
        self.flags = flags.0;
    }

    fn split(&mut self, at: usize) -> Option<Self> {
        let Range { start, end } = self.range();
        let backend = self.backend.split(at - start)?;
        let mut right = Self { backend, ..self.clone() };
        right.set_range(at..end);
        self.set_range(start..at);
        Some(right)
    }

    fn keep_below(&mut self, at: usize) -> bool {
        let Range { start, end } = self.range();
        self.set_range(start..at);
        self.backend.shrink_right(end - at)
    }

    fn keep_above(&mut self, at: usize) -> bool {
        let Range { start, end } = self.range();
        self.set_range(at..end);
        self.backend.shrink_left(at - start)
    }
}

/// The flags of areas with this backend.
pub struct FlagsOf<B: MappingBackend>(pub(crate) Flags<B::Flags>);

impl<B: MappingBackend> Clone for FlagsOf<B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: MappingBackend> Copy for FlagsOf<B> {}

/// The kernel's page table, edited by the backends.
pub(crate) struct Edited<'a, B: MappingBackend> {
    pub(crate) context: &'a mut B::MutationContext,
    pub(crate) page_table: &'a mut B::PageTable,
}

impl<B: MappingBackend> PageTable<MemoryArea<B>> for Edited<'_, B> {
    const RESTORES_UNMAPPED: bool = false;

    fn map(&mut self, area: &MemoryArea<B>, range: Range<usize>) -> bool {
        let (start, size, flags) = (range.start.into(), range.len(), area.flags());
        area.backend.map(start, size, flags, self.context, self.page_table)
    }

    fn unmap(&mut self, area: &MemoryArea<B>, range: Range<usize>) -> bool {
        area.backend.unmap(range.start.into(), range.len(), self.context, self.page_table)
    }

    fn protect(&mut self, area: &MemoryArea<B>, range: Range<usize>, new: FlagsOf<B>) -> bool {
        let (start, size, flags) = (range.start.into(), range.len(), new.0.flags);
        area.backend.protect(start, size, flags, self.context, self.page_table)
    }
}
