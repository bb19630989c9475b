//! Changes of the areas that leave page tables alone.

use core::ops::Range;

use kvma::NoHooks;

use crate::area::Area;
use crate::failure::Failure;
use crate::parts::Parts;
use crate::set::AreaSet;

impl<T: Area> AreaSet<T> {
    /// Returns the area that holds all of `range`. O(log n).
    pub fn find_around(&self, range: &Range<usize>) -> Option<&T> {
        self.find(range.start).filter(|area| !range.is_empty() && range.end <= area.range().end)
    }

    /// Puts `area` in the place of a part of an area. O(log n).
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`] if no area holds all of it, [`Failure::Refused`],
    /// [`Failure::NoMemory`].
    pub fn replace_part(&mut self, area: T) -> Result<(), Failure> {
        let range = area.range();
        let old = self.find_around(&range).ok_or(Failure::Invalid)?;
        let mut parts = Parts::new();
        parts.split_at_ends(old, &range)?;
        if let Some(map) = &mut self.map {
            let mut hooks = NoHooks;
            let mut update = map.update(&mut hooks);
            // Both splits, or none.
            update.preallocate(2)?;
            map.split_at(range.start as u64, &mut update)?;
            map.split_at(range.end as u64, &mut update)?;
        }
        self.put(parts);
        self.change(range.start, |old| *old = area)
    }

    /// Changes the area that holds `addr`, but not its range. O(log n).
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`] if there is none.
    pub fn change<R>(
        &mut self,
        addr: usize,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Failure> {
        let map = self.map.as_mut().ok_or(Failure::Invalid)?;
        Ok(map.update_data(addr as u64, |slot| change(&mut slot.area))?)
    }
}
