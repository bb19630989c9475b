//! Changes of the areas that leave the page table alone.

use core::mem;

use kvma_area_set::{NoPageTable, Overlap};

use crate::set::range_of;
use crate::{MappingBackend, MappingError, MappingResult, MemoryArea, MemorySet};

impl<B: MappingBackend> MemorySet<B> {
    /// Adds an area that is in the page table already.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if it is empty, [`MappingError::AlreadyExists`],
    /// [`MappingError::BadState`] if there is no memory.
    pub fn insert_prepared_area(&mut self, area: MemoryArea<B>) -> MappingResult {
        Ok(self.areas.map(area, Overlap::Refuse, &mut NoPageTable)?)
    }

    /// Removes what lies in `size` bytes from `start`, which is in the page table no more.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if the range wraps, [`MappingError::BadState`] if a backend
    /// refuses to be split, or if there is no memory.
    pub fn unmap_metadata(&mut self, start: B::Addr, size: usize) -> MappingResult {
        Ok(self.areas.unmap(range_of::<B>(start, size)?, &mut NoPageTable)?)
    }

    /// Says whether [`replace_area_metadata`](Self::replace_area_metadata) would find a place.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if no area holds all of the range.
    pub fn validate_area_metadata_replacement(&self, area: &MemoryArea<B>) -> MappingResult {
        let range = range_of::<B>(area.start(), area.size())?;
        self.areas.find_around(&range).map(drop).ok_or(MappingError::InvalidParam)
    }

    /// Puts an area in the place of a part of another one, which is split around it.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if no area holds all of its range,
    /// [`MappingError::BadState`] if a backend refuses to be split, or if there is no memory.
    pub fn replace_area_metadata(&mut self, area: MemoryArea<B>) -> MappingResult {
        Ok(self.areas.replace_part(area)?)
    }

    /// Gives the area that is `size` bytes from `start` another backend, and returns the old one.
    ///
    /// # Errors
    ///
    /// [`MappingError::InvalidParam`] if there is no such area.
    pub fn replace_exact_backend(
        &mut self,
        start: B::Addr,
        size: usize,
        backend: B,
    ) -> MappingResult<B> {
        self.exact(start, size)?;
        Ok(self.areas.change(start.into(), |area| mem::replace(&mut area.backend, backend))?)
    }

    /// Goes back to a copy that was made before.
    pub fn restore_metadata_preimage(&mut self, preimage: Self) {
        *self = preimage;
    }
}
