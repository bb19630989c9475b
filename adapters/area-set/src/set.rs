//! The set of areas, and its calls that edit the page table.

extern crate alloc;

use alloc::alloc::{Layout, handle_alloc_error};
use core::fmt;
use core::ops::Range;

use kvma::{Attrs, Heap, MapRequest, PageSize, Placement, Search, VmMap};

use crate::area::{Area, NoPageTable, PageTable, Slot, address};
use crate::calls::Calls;
use crate::failure::Failure;
use crate::parts::Parts;

/// The fate of areas in the place of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They are unmapped first.
    Replace,
    /// The new one is refused.
    Refuse,
}

/// The user bit that changes with an area's flags, which are a part of its data.
const CHANGED: u64 = 1;

/// Areas, none of which overlap.
pub struct AreaSet<T: Area> {
    /// Made with the first area, since its sentinel needs memory.
    pub(crate) map: Option<VmMap<Slot<T>, Heap>>,
}

impl<T: Area> AreaSet<T> {
    /// Creates an empty set. Takes no memory.
    pub const fn new() -> Self {
        Self { map: None }
    }

    /// Returns the number of areas. O(1).
    pub fn len(&self) -> usize {
        self.map.as_ref().map_or(0, VmMap::len)
    }

    /// Returns `true` if there are no areas. O(1).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the areas, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.map.iter().flat_map(|map| map.iter().map(|vma| &vma.data().area))
    }

    /// Iterates over the areas that share a byte with `range`, whole, ascending.
    pub fn overlapping(&self, range: Range<usize>) -> impl Iterator<Item = &T> {
        let (start, len) = start_len(&range);
        self.map.iter().flat_map(move |map| map.overlapping(start, len).map(|vma| &vma.data().area))
    }

    /// Returns the area that holds `addr`. O(log n).
    pub fn find(&self, addr: usize) -> Option<&T> {
        Some(&self.map.as_ref()?.find(addr as u64)?.data().area)
    }

    /// Finds the lowest multiple of `align` in `limit`, not below `hint`, from which `size` bytes
    /// are free. `size` must be a multiple of `align`, a power of two.
    ///
    /// O(log n); [`VmMap::find_gap`] says what that means for gaps that do not begin aligned.
    pub fn find_free(
        &self,
        hint: usize,
        size: usize,
        limit: Range<usize>,
        align: usize,
    ) -> Option<usize> {
        if !align.is_power_of_two() || !size.is_multiple_of(align) || size == 0 {
            return None;
        }
        let first = hint.max(limit.start);
        let last = limit.end.checked_sub(1)?;
        if first > last {
            return None;
        }
        let Some(map) = &self.map else {
            let start = first.checked_next_multiple_of(align)?;
            return (start.checked_add(size)? <= limit.end).then_some(start);
        };
        let search = Search::new().window(first as u64, last as u64).align(align as u64);
        map.find_gap(size as u64, &search).ok().map(address)
    }

    /// Adds an area, and maps it in the page table. O(log n + areas replaced).
    ///
    /// # Errors
    ///
    /// [`Failure::Invalid`], [`Failure::Overlap`], [`Failure::NoMemory`], [`Failure::Refused`],
    /// [`Failure::Unmapped`], [`Failure::Broken`].
    pub fn map<P: PageTable<T>>(
        &mut self,
        area: T,
        overlap: Overlap,
        page_table: &mut P,
    ) -> Result<(), Failure> {
        let range = area.range();
        let (start, len) = start_len(&range);
        if len == 0 {
            return Err(Failure::Invalid);
        }
        let (placement, parts) = match overlap {
            Overlap::Refuse => (Placement::FixedNoReplace(start), Parts::new()),
            Overlap::Replace => (Placement::Fixed(start), self.left_without(&range)?),
        };
        let request = MapRequest::new(placement, len, Attrs::default());
        let mut calls = Calls::new(page_table);
        let mapped = self.make_map()?.map(request.with_data(Slot::new(area)), &mut calls);
        calls.judge(mapped)?;
        self.put(parts);
        Ok(())
    }

    /// Makes the area that holds `addr` longer by `len` bytes, and maps those. O(log n).
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map); [`Failure::Invalid`] if there is no area.
    pub fn extend<P: PageTable<T>>(
        &mut self,
        addr: usize,
        len: usize,
        page_table: &mut P,
    ) -> Result<(), Failure> {
        let vma = self.map.as_ref().and_then(|map| map.find(addr as u64));
        let (attrs, mut area) =
            vma.map(|vma| (vma.attrs(), vma.data().area.clone())).ok_or(Failure::Invalid)?;
        let end = area.range().end;
        area.set_range(end..end.checked_add(len).ok_or(Failure::Invalid)?);
        let request = MapRequest::new(Placement::FixedNoReplace(end as u64), len as u64, attrs)
            .with_data(Slot { continues: true, ..Slot::new(area) });
        let mut calls = Calls::new(page_table);
        let mapped = self.make_map()?.map(request, &mut calls);
        calls.judge(mapped).map(drop)
    }

    /// Removes what lies in `range`, and unmaps it; gaps are fine. O(log n + areas).
    ///
    /// # Errors
    ///
    /// [`Failure::NoMemory`], [`Failure::Refused`], [`Failure::Unmapped`], [`Failure::Broken`].
    pub fn unmap<P: PageTable<T>>(
        &mut self,
        range: Range<usize>,
        page_table: &mut P,
    ) -> Result<(), Failure> {
        let (start, len) = start_len(&range);
        if len == 0 {
            return Ok(());
        }
        let parts = self.left_without(&range)?;
        let Some(map) = &mut self.map else { return Ok(()) };
        let mut calls = Calls::new(page_table);
        let unmapped = map.unmap(start, len, &mut calls);
        calls.judge(unmapped)?;
        self.put(parts);
        Ok(())
    }

    /// Removes and unmaps everything.
    ///
    /// # Errors
    ///
    /// [`Failure::Refused`], [`Failure::Unmapped`], [`Failure::Broken`].
    pub fn clear<P: PageTable<T>>(&mut self, page_table: &mut P) -> Result<(), Failure> {
        let Some(map) = &mut self.map else { return Ok(()) };
        let mut calls = Calls::new(page_table);
        let cleared = map.clear(&mut calls);
        calls.judge(cleared).map(drop)
    }

    /// Gives what lies in `range` the flags that `new` returns for an area; where that is `None`,
    /// and in gaps, nothing changes. `new` is asked once for each area. O(log n) for each.
    ///
    /// # Errors
    ///
    /// [`Failure::NoMemory`], [`Failure::Refused`], [`Failure::Broken`].
    pub fn protect<P: PageTable<T>>(
        &mut self,
        range: Range<usize>,
        mut new: impl FnMut(&T) -> Option<T::Flags>,
        page_table: &mut P,
    ) -> Result<(), Failure> {
        let (start, len) = start_len(&range);
        if len == 0 {
            return Ok(());
        }
        let changed = self.plan_flags(&range, &mut new).and_then(|parts| {
            let Some(map) = &mut self.map else { return Ok(parts) };
            let mut calls = Calls::new(page_table);
            let toggled = |vma: &kvma::Vma<'_, Slot<T>>| {
                let attrs = vma.attrs();
                let toggle = if vma.data().next.is_some() { CHANGED } else { 0 };
                attrs.with_user_bits(attrs.user_bits() ^ toggle)
            };
            let changed = map.update_attrs(start, len, toggled, &mut calls);
            calls.judge(changed).map(|()| parts)
        });
        let result = changed.map(|parts| self.put(parts));
        self.each_slot(&range, |slot| {
            let flags = slot.next.take();
            let whole = slot.area.range();
            let inside = range.start <= whole.start && whole.end <= range.end;
            if let Some(flags) = flags.filter(|_| inside && result.is_ok()) {
                slot.area.set_flags(flags);
            }
        });
        result
    }

    /// Writes down for every area in `range` which flags it is to get, and returns the parts of
    /// those that are split.
    fn plan_flags(
        &mut self,
        range: &Range<usize>,
        new: &mut impl FnMut(&T) -> Option<T::Flags>,
    ) -> Result<Parts<T>, Failure> {
        let mut parts = Parts::new();
        let mut result = Ok(());
        self.each_slot(range, |slot| {
            let whole = slot.area.range();
            if result.is_ok() && whole.start < range.end && range.start < whole.end {
                slot.next = new(&slot.area);
                if slot.next.is_some() {
                    result = parts.split_at_ends(&slot.area, range);
                }
            }
        });
        result.map(|()| parts)
    }

    /// Calls `change` for each area that shares a byte with `range` or touches it.
    fn each_slot(&mut self, range: &Range<usize>, mut change: impl FnMut(&mut Slot<T>)) {
        let Some(map) = &mut self.map else { return };
        // With a byte on either side: parts that were split off lie there.
        let end = range.end.saturating_add(1) as u64;
        let mut from = range.start.saturating_sub(1) as u64;
        while let Some(vma) = map.overlapping(from, end.saturating_sub(from)).next() {
            let (start, last) = (vma.start(), vma.last());
            let found = map.update_data(start, &mut change);
            debug_assert!(found.is_ok(), "it was found a moment ago");
            from = last.saturating_add(1);
        }
    }

    /// Returns what is left of the areas at the ends of `range` if it is removed.
    fn left_without(&self, range: &Range<usize>) -> Result<Parts<T>, Failure> {
        let mut parts = Parts::new();
        let Some(map) = &self.map else { return Ok(parts) };
        let (start, len) = start_len(range);
        let mut areas = map.overlapping(start, len).map(|vma| &vma.data().area);
        let first = areas.next();
        let last = areas.next_back();
        for area in first.into_iter().chain(last) {
            parts.cut_out(area, range)?;
        }
        Ok(parts)
    }

    /// Puts parts in the place of the copies that splitting has made.
    pub(crate) fn put(&mut self, parts: Parts<T>) {
        let Some(map) = &mut self.map else { return };
        for part in parts.into_iter() {
            let start = part.range().start as u64;
            let found = map.update_data(start, |slot| slot.area = part);
            debug_assert!(found.is_ok(), "every part is an area");
        }
    }

    pub(crate) fn make_map(&mut self) -> Result<&mut VmMap<Slot<T>, Heap>, Failure> {
        if self.map.is_none() {
            // An area ends at `usize::MAX` at most, so the last byte is in none.
            let last = usize::MAX as u64 - 1;
            self.map = Some(VmMap::new(0..=last, PageSize::new(1)?, Heap)?);
        }
        self.map.as_mut().ok_or(Failure::NoMemory)
    }
}

/// Returns a range's first byte and length.
pub(crate) fn start_len(range: &Range<usize>) -> (u64, u64) {
    (range.start as u64, range.end.saturating_sub(range.start) as u64)
}

impl<T: Area> Default for AreaSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies the areas, and leaves page tables alone. Where there is no memory, it ends as it does for
/// every collection of `alloc`.
impl<T: Area> Clone for AreaSet<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::new();
        for area in self.iter() {
            if copy.map(area.clone(), Overlap::Refuse, &mut NoPageTable).is_err() {
                handle_alloc_error(Layout::new::<T>());
            }
        }
        copy
    }
}

impl<T: Area + fmt::Debug> fmt::Debug for AreaSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
