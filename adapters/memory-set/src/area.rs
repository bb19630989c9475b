//! An area, and how it is split.

use core::fmt;
use core::ops::Range;

use kvma_area_set::{Area, PageTable};
use memory_addr::AddrRange;

use crate::MappingBackend;

/// A range of addresses with the same flags and a backend.
#[derive(Clone)]
pub struct MemoryArea<B: MappingBackend> {
    va_range: AddrRange<B::Addr>,
    flags: B::Flags,
    backend: B,
}

impl<B: MappingBackend> MemoryArea<B> {
    /// Creates an area of `size` bytes, which is in no set yet.
    ///
    /// # Panics
    ///
    /// If `start + size` overflows, as that of `memory_set` does.
    pub fn new(start: B::Addr, size: usize, flags: B::Flags, backend: B) -> Self {
        Self { va_range: AddrRange::from_start_size(start, size), flags, backend }
    }

    /// Returns the range.
    pub const fn va_range(&self) -> AddrRange<B::Addr> {
        self.va_range
    }

    /// Returns the flags.
    pub const fn flags(&self) -> B::Flags {
        self.flags
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
            .field("flags", &self.flags)
            .finish()
    }
}

impl<B: MappingBackend> Area for MemoryArea<B> {
    type Flags = B::Flags;

    fn range(&self) -> Range<usize> {
        self.va_range.start.into()..self.va_range.end.into()
    }

    fn set_range(&mut self, range: Range<usize>) {
        self.va_range.start = range.start.into();
        self.va_range.end = range.end.into();
    }

    fn flags(&self) -> B::Flags {
        self.flags
    }

    fn set_flags(&mut self, flags: B::Flags) {
        self.flags = flags;
    }

    fn split(&mut self, at: usize) -> Option<Self> {
        let mut right = self.clone();
        right.va_range.start = at.into();
        self.va_range.end = at.into();
        Some(right)
    }

    fn keep_below(&mut self, at: usize) -> bool {
        self.va_range.end = at.into();
        true
    }

    fn keep_above(&mut self, at: usize) -> bool {
        self.va_range.start = at.into();
        true
    }
}

/// The kernel's page table, edited by the backends.
pub(crate) struct Edited<'a, B: MappingBackend>(pub(crate) &'a mut B::PageTable);

impl<B: MappingBackend> PageTable<MemoryArea<B>> for Edited<'_, B> {
    const RESTORES_UNMAPPED: bool = true;

    fn map(&mut self, area: &MemoryArea<B>, range: Range<usize>) -> bool {
        area.backend.map(range.start.into(), range.len(), area.flags, self.0)
    }

    fn unmap(&mut self, area: &MemoryArea<B>, range: Range<usize>) -> bool {
        area.backend.unmap(range.start.into(), range.len(), self.0)
    }

    fn protect(&mut self, area: &MemoryArea<B>, range: Range<usize>, flags: B::Flags) -> bool {
        area.backend.protect(range.start.into(), range.len(), flags, self.0)
    }
}
