//! The set of areas.

use core::fmt;
use core::ops::Range;

use kvma_area_set::{AreaSet, Overlap};
use memory_addr::AddrRange;

use crate::area::Edited;
use crate::{MappingBackend, MappingError, MappingResult, MemoryArea};

/// The areas of an address space. None overlap, and neighbours stay apart.
///
/// The page table is the caller's, and passed to each call.
pub struct MemorySet<B: MappingBackend> {
    areas: AreaSet<MemoryArea<B>>,
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
    /// O(log n), where that of `memory_set` asks every area. All of the result lies in `limit`;
    /// there, a gap between two areas beyond it would do. Where many gaps are long enough and do
    /// not begin aligned, it need not be the lowest: see `VmMap::find_gap` of kvma.
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
    /// overlaps with another one that is not to be unmapped, [`MappingError::BadState`]. What was
    /// in its place is there again then.
    pub fn map(
        &mut self,
        area: MemoryArea<B>,
        page_table: &mut B::PageTable,
        unmap_overlap: bool,
    ) -> MappingResult {
        let overlap = if unmap_overlap { Overlap::Replace } else { Overlap::Refuse };
        Ok(self.areas.map(area, overlap, &mut Edited::<B>(page_table))?)
    }

    /// Unmaps `size` bytes from `start`. Areas that lie there in part are split; gaps and a size of
    /// zero are fine.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`].
    pub fn unmap(
        &mut self,
        start: B::Addr,
        size: usize,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        let range = range_of::<B>(start, size)?;
        Ok(self.areas.unmap(range, &mut Edited::<B>(page_table))?)
    }

    /// Unmaps everything.
    ///
    /// # Errors
    ///
    /// [`MappingError::BadState`].
    pub fn clear(&mut self, page_table: &mut B::PageTable) -> MappingResult {
        Ok(self.areas.clear(&mut Edited::<B>(page_table))?)
    }

    /// Gives `size` bytes from `start` the flags that `update_flags` returns for an area's old
    /// ones; where that is `None`, and in gaps, nothing changes. `update_flags` is asked once for
    /// each area in the range. Areas that lie there in part are split.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`].
    pub fn protect(
        &mut self,
        start: B::Addr,
        size: usize,
        update_flags: impl Fn(B::Flags) -> Option<B::Flags>,
        page_table: &mut B::PageTable,
    ) -> MappingResult {
        let range = range_of::<B>(start, size)?;
        let new = |area: &MemoryArea<B>| update_flags(area.flags());
        Ok(self.areas.protect(range, new, &mut Edited::<B>(page_table))?)
    }
}

/// Returns the range of `size` bytes from `start`.
fn range_of<B: MappingBackend>(start: B::Addr, size: usize) -> MappingResult<Range<usize>> {
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
