#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod hooks;
mod table;

use core::fmt;

#[cfg(doc)]
use kvma::Error;
use kvma::{
    Attrs, Backing, Heap, HookError, MapRequest, PageSize, Placement, Prot, VmMap, VmRange,
};

use self::hooks::{Edit, populate};
pub use self::table::{Entry, NestedTable, NoMemory};

/// The user flag of areas that are mapped ahead.
const POPULATE: u16 = 1;
/// The object of linear areas, whose offsets are the host's addresses.
const LINEAR: u64 = 0;

/// Why a call was refused: the map's reason, or no memory for the page table and frames. Nothing
/// has changed.
pub type AxError = HookError<NoMemory>;

/// When the pages of an area come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Populate {
    /// With the first access.
    OnFault,
    /// At once.
    Now,
}

/// The guest-physical address space of a virtual machine. Addresses and sizes are in bytes, pages
/// have 4 KiB.
pub struct AddrSpace<T: NestedTable> {
    areas: VmMap<(), Heap>,
    table: T,
}

impl<T: NestedTable> AddrSpace<T> {
    /// Creates an empty address space of `size` bytes from `base`, over an empty page table.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::OutOfMemory`].
    pub fn new_empty(base: u64, size: u64, table: T) -> Result<Self, AxError> {
        let space = VmRange::new(base, size, PageSize::SIZE_4K)?;
        let areas = VmMap::new(space.start()..=space.last(), PageSize::SIZE_4K, Heap)?;
        Ok(Self { areas, table })
    }

    /// Returns the first address.
    pub fn base(&self) -> u64 {
        self.areas.space().start()
    }

    /// Returns the address behind the last one; `None` where that is 2^64.
    pub fn end(&self) -> Option<u64> {
        self.areas.space().end()
    }

    /// Returns the size in bytes; `None` where that is 2^64.
    pub fn size(&self) -> Option<u64> {
        self.areas.space().len()
    }

    /// Returns the page table.
    pub fn page_table(&self) -> &T {
        &self.table
    }

    /// Returns `true` if `size` bytes from `start` lie in the address space.
    pub fn contains_range(&self, start: u64, size: u64) -> bool {
        let space = self.areas.space();
        size.checked_sub(1)
            .and_then(|rest| start.checked_add(rest))
            .is_some_and(|last| space.contains(start) && space.contains(last))
    }

    /// Maps `size` bytes from `start` to the host's memory from `paddr`, at once, with the largest
    /// leaves that both allow.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`] (also if the host's
    /// addresses wrap), [`Error::Overlap`], [`Error::OutOfMemory`], [`NoMemory`].
    pub fn map_linear(
        &mut self,
        start: u64,
        paddr: u64,
        size: u64,
        prot: Prot,
    ) -> Result<(), AxError> {
        VmRange::new(paddr, size, PageSize::SIZE_4K)?;
        let backing = Backing::Object { id: LINEAR, offset: paddr };
        self.map(start, size, Attrs::new(prot).with_backing(backing))
    }

    /// Maps `size` bytes from `start` to frames, now or with the first access to each.
    ///
    /// # Errors
    ///
    /// Those of [`map_linear`](Self::map_linear).
    pub fn map_alloc(
        &mut self,
        start: u64,
        size: u64,
        prot: Prot,
        populate: Populate,
    ) -> Result<(), AxError> {
        let flags = if populate == Populate::Now { POPULATE } else { 0 };
        self.map(start, size, Attrs::new(prot).with_user_flags(flags))
    }

    fn map(&mut self, start: u64, size: u64, attrs: Attrs) -> Result<(), AxError> {
        let request = MapRequest::new(Placement::FixedNoReplace(start), size, attrs);
        self.areas.map(request, &mut Edit::new(&mut self.table)).map(drop)
    }

    /// Unmaps `size` bytes from `start`, in the middle of areas and of leaves too; gaps are fine.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::OutOfMemory`],
    /// [`NoMemory`] (to split a leaf).
    pub fn unmap(&mut self, start: u64, size: u64) -> Result<(), AxError> {
        self.areas.unmap(start, size, &mut Edit::new(&mut self.table)).map(drop)
    }

    /// Unmaps everything.
    ///
    /// # Errors
    ///
    /// [`NoMemory`] to write down which frames are free.
    pub fn clear(&mut self) -> Result<(), AxError> {
        self.areas.clear(&mut Edit::new(&mut self.table)).map(drop)
    }

    /// Handles a fault at `gpa`. Returns `false` if the access is an error, or if there was no
    /// memory.
    #[must_use]
    pub fn handle_page_fault(&mut self, gpa: u64, access: Prot) -> bool {
        let Some(area) = self.areas.find(gpa) else { return false };
        if !area.prot().contains(access) {
            return false;
        }
        // Another processor may have been first.
        if self.table.query(gpa).is_some() {
            return true;
        }
        let is_alloc = area.attrs().backing() == Backing::Anonymous;
        let page = PageSize::SIZE_4K.round_down(gpa);
        is_alloc && populate(&mut self.table, page, area.prot()).is_ok()
    }

    /// Returns the host's address of the byte at `gpa`, if it is in the page table.
    pub fn translate(&self, gpa: u64) -> Option<u64> {
        let entry = self.table.query(gpa)?;
        Some(entry.hpa + (gpa - entry.gpa))
    }

    /// Returns the host's address of the byte at `gpa`, and how many bytes of the area lie from
    /// there on. They need not be contiguous in the host's memory.
    pub fn translate_and_get_limit(&self, gpa: u64) -> Option<(u64, u64)> {
        let last = self.areas.find(gpa)?.last();
        Some((self.translate(gpa)?, (last - gpa).saturating_add(1)))
    }

    /// Returns the number of areas. Neighbours that go on where the other ends are one.
    pub fn area_count(&self) -> usize {
        self.areas.len()
    }
}

impl<T: NestedTable> Drop for AddrSpace<T> {
    fn drop(&mut self) {
        // Area by area, so that little memory is needed; without any, the frames are leaked.
        while let Some((start, len)) = self.areas.iter().next().and_then(|area| {
            let range = area.range();
            Some((range.start(), range.len()?))
        }) {
            if self.unmap(start, len).is_err() {
                return;
            }
        }
    }
}

impl<T: NestedTable> fmt::Debug for AddrSpace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddrSpace").field("areas", &self.areas).finish()
    }
}
