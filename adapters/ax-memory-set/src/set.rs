//! The set of areas, and its calls that edit the page table.

use core::fmt;
use core::ops::Range;

use ax_memory_addr::{AddrRange, MemoryAddr, PAGE_SIZE_4K};
use kvma_area_set::{AreaSet, Failure, Overlap};

use crate::area::{Edited, Flags, FlagsOf};
use crate::{MappingBackend, MappingError, MappingResult, MemoryArea};

/// The areas of an address space. None overlap, and neighbours stay apart.
///
/// The page table is the caller's, and passed to each call, with a context that all calls of
/// backends share which are made for it.
#[derive(Clone)]
pub struct MemorySet<B: MappingBackend> {
    pub(crate) areas: AreaSet<MemoryArea<B>>,
}

impl<B: MappingBackend> MemorySet<B> {
    /// Creates an empty set. Takes no memory, so that it can stand in a static.
    pub const fn new() -> Self {
        Self { areas: AreaSet::new() }
    }

    /// Returns the number of areas. O(1).
    pub fn len(&self) -> usize {
        self.areas.len()
    }

    /// Returns `true` if there are no areas. O(1).
    pub fn is_empty(&self) -> bool {
        self.areas.is_empty()
    }

    /// Iterates over the areas, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &MemoryArea<B>> {
        self.areas.iter()
    }

    /// Returns `true` if an area shares an address with `range`. O(log n).
    pub fn overlaps(&self, range: AddrRange<B::Addr>) -> bool {
        self.areas.overlapping(range.start.into()..range.end.into()).next().is_some()
    }

    /// Returns the area that holds `addr`. O(log n).
    pub fn find(&self, addr: B::Addr) -> Option<&MemoryArea<B>> {
        self.areas.find(addr.into())
    }

    /// Returns the lowest address in `limit`, not below `hint`, from which `size` bytes are free.
    /// It is a multiple of `align`, a power of two, of which `size` must be a multiple as well.
    ///
    /// O(log n), where that of `ax-memory-set` asks every area. Where many gaps are long enough and
    /// do not begin aligned, it need not be the lowest: see `VmMap::find_gap` of kvma.
    pub fn find_free_area(
        &self,
        hint: B::Addr,
        size: usize,
        limit: AddrRange<B::Addr>,
        align: usize,
    ) -> Option<B::Addr> {
        let limit = limit.start.into()..limit.end.into();
        self.areas.find_free(hint.into(), size, limit, align).map(B::Addr::from)
    }

    /// Adds an area and maps it. With `unmap_overlap`, areas in its place are unmapped first.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the area is empty, [`MappingError::AlreadyExists`] if it
    /// overlaps with another one that is not to be unmapped, [`MappingError::BadState`],
    /// [`MappingError::NeedsRepair`].
    pub fn map(
        &mut self,
        area: MemoryArea<B>,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
        unmap_overlap: bool,
    ) -> MappingResult {
        if area.va_range().is_empty() {
            return Err(MappingError::InvalidParam);
        }
        let overlap = if unmap_overlap { Overlap::Replace } else { Overlap::Refuse };
        if self.overlaps(area.va_range()) {
            if overlap == Overlap::Refuse {
                return Err(MappingError::AlreadyExists);
            }
            self.validate_unmap(area.start(), area.size(), page_table)?;
        } else if !area.backend().validate_map(area.start(), area.size(), area.flags(), page_table)
        {
            return Err(MappingError::BadState);
        }
        Ok(self.areas.map(area, overlap, &mut Edited::<B> { context, page_table })?)
    }

    /// Unmaps `size` bytes from `start`. Areas that lie there in part are split; gaps and a size of
    /// zero are fine.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`]: then areas
    /// are all there, and those below the one that has refused are not in the page table any more.
    pub fn unmap(
        &mut self,
        start: B::Addr,
        size: usize,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        self.validate_unmap(start, size, page_table)?;
        let range = range_of::<B>(start, size)?;
        Ok(self.areas.unmap(range, &mut Edited::<B> { context, page_table })?)
    }

    /// Asks every backend in the range whether it would refuse to unmap.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`].
    pub fn validate_unmap(
        &self,
        start: B::Addr,
        size: usize,
        page_table: &B::PageTable,
    ) -> MappingResult {
        self.each_part(range_of::<B>(start, size)?, |area, part| {
            area.backend().validate_unmap(part.start.into(), part.len(), page_table)
        })
    }

    /// Removes the area that is `size` bytes from `start` and unmaps it. Needs no memory.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if there is no such area, [`MappingError::BadState`].
    pub fn unmap_exact(
        &mut self,
        start: B::Addr,
        size: usize,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult<MemoryArea<B>> {
        let area = self.exact(start, size)?.clone();
        self.unmap(start, size, context, page_table)?;
        Ok(area)
    }

    /// Unmaps everything.
    ///
    /// # Errors
    ///
    /// [`MappingError::BadState`] if the first area has refused, or any that was asked beforehand;
    /// [`MappingError::NeedsRepair`] if areas below are not in the page table any more.
    pub fn clear(
        &mut self,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        self.each_part(0..usize::MAX, |area, part| {
            area.backend().validate_unmap(part.start.into(), part.len(), page_table)
        })?;
        match self.areas.clear(&mut Edited::<B> { context, page_table }) {
            Err(Failure::Unmapped) => Err(MappingError::NeedsRepair),
            result => Ok(result?),
        }
    }

    /// Makes the area that holds `addr` longer by `additional_size` bytes, whole pages of 4 KiB,
    /// and maps those.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if there is no area, or if pages are not whole;
    /// [`MappingError::AlreadyExists`], [`MappingError::BadState`], [`MappingError::NeedsRepair`].
    pub fn extend_area(
        &mut self,
        addr: B::Addr,
        additional_size: usize,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        if additional_size == 0 {
            return Ok(());
        }
        let area = self.find(addr).ok_or(MappingError::InvalidParam)?;
        let end = area.end();
        let more = range_of::<B>(end, additional_size)?;
        if self.areas.overlapping(more).next().is_some() {
            return Err(MappingError::AlreadyExists);
        }
        if !end.is_aligned_4k() || !additional_size.is_multiple_of(PAGE_SIZE_4K) {
            return Err(MappingError::InvalidParam);
        }
        if !area.backend().validate_map(end, additional_size, area.flags(), page_table) {
            return Err(MappingError::BadState);
        }
        let mut edited = Edited::<B> { context, page_table };
        Ok(self.areas.extend(addr.into(), additional_size, &mut edited)?)
    }

    /// Takes the last `additional_size` bytes of the area that holds `addr` away again.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if there is no area, or nothing would be left of it;
    /// [`MappingError::BadState`] if a backend has said beforehand that it would refuse, or if
    /// there is no memory; [`MappingError::NeedsRepair`] if it has refused then.
    pub fn rollback_extend_area(
        &mut self,
        addr: B::Addr,
        additional_size: usize,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        if additional_size == 0 {
            return Ok(());
        }
        let area = self.find(addr).ok_or(MappingError::InvalidParam)?;
        if additional_size >= area.size() {
            return Err(MappingError::InvalidParam);
        }
        let end: usize = area.end().into();
        let start = end - additional_size;
        if !area.backend().validate_unmap(start.into(), additional_size, page_table) {
            return Err(MappingError::BadState);
        }
        match self.areas.unmap(start..end, &mut Edited::<B> { context, page_table }) {
            Err(Failure::Refused) => Err(MappingError::NeedsRepair),
            result => Ok(result?),
        }
    }

    /// Gives `size` bytes from `start` the flags that `update_flags` returns for an area's old
    /// ones; where that is `None`, and in gaps, nothing changes. `update_flags` is asked twice for
    /// each area in the range, and must answer the same. Areas that lie there in part are split.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`],
    /// [`MappingError::NeedsRepair`].
    pub fn protect(
        &mut self,
        start: B::Addr,
        size: usize,
        update_flags: impl Fn(B::Flags) -> Option<B::Flags>,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        let both = |flags, _| update_flags(flags).map(|new| (new, new));
        self.protect_with_reported_flags(start, size, both, context, page_table)
    }

    /// Changes the flags that programs are shown as well: see [`protect`](Self::protect).
    ///
    /// # Errors
    ///
    /// Those of [`protect`](Self::protect).
    pub fn protect_with_reported_flags(
        &mut self,
        start: B::Addr,
        size: usize,
        update_flags: impl Fn(B::Flags, B::Flags) -> Option<(B::Flags, B::Flags)>,
        context: &mut B::MutationContext,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        let new = |area: &MemoryArea<B>| update_flags(area.flags(), area.reported_flags());
        let range = range_of::<B>(start, size)?;
        self.each_part(range.clone(), |area, part| {
            new(area).is_none_or(|(flags, _)| {
                area.backend().validate_protect(part.start.into(), part.len(), flags, page_table)
            })
        })?;
        let flags = |area: &MemoryArea<B>| {
            new(area).map(|(flags, reported)| FlagsOf(Flags { flags, reported }))
        };
        Ok(self.areas.protect(range, flags, &mut Edited::<B> { context, page_table })?)
    }

    /// Returns the area that is `size` bytes from `start`.
    pub(crate) fn exact(&self, start: B::Addr, size: usize) -> MappingResult<&MemoryArea<B>> {
        let end = range_of::<B>(start, size)?.end;
        let area = self.find(start).filter(|area| area.start() == start);
        area.filter(|area| area.end().into() == end).ok_or(MappingError::InvalidParam)
    }

    /// Asks about each area's part of a range.
    fn each_part(
        &self,
        range: Range<usize>,
        is_fine: impl Fn(&MemoryArea<B>, Range<usize>) -> bool,
    ) -> MappingResult {
        let all = self.areas.overlapping(range.clone()).all(|area| {
            let (start, end): (usize, usize) = (area.start().into(), area.end().into());
            is_fine(area, start.max(range.start)..end.min(range.end))
        });
        if all { Ok(()) } else { Err(MappingError::BadState) }
    }
}

/// Returns the range of `size` bytes from `start`.
pub(crate) fn range_of<B: MappingBackend>(
    start: B::Addr,
    size: usize,
) -> MappingResult<Range<usize>> {
    let start = start.into();
    let end = start.checked_add(size).ok_or(MappingError::InvalidParam)?;
    Ok(start..end)
}

impl<B: MappingBackend> Default for MemorySet<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: MappingBackend> fmt::Debug for MemorySet<B>
where
    B::Addr: fmt::Debug,
    B::Flags: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
