//! Creating a guest.

use core::ops::RangeInclusive;

use super::Guest;
use super::books::Books;
use super::data::GuestAlloc;
use crate::error::Error;
use crate::range::PageSize;
use crate::vm_map::VmMap;

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Creates a guest without memory, whose guest-physical addresses are the bytes `space`: whole
    /// pages, up to 64 bits. Takes three nodes.
    ///
    /// Pages are those of the second stage. A monitor whose regions begin and end anywhere takes
    /// pages of one byte.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`] (the space would reach to
    /// 2^64 with pages of one byte), [`Error::OutOfMemory`].
    pub fn new(space: RangeInclusive<u64>, page_size: PageSize, alloc: A) -> Result<Self, Error> {
        let books = Books::new(page_size, alloc.clone())?;
        let regions = VmMap::new(space, page_size, alloc)?;
        Ok(Self {
            regions,
            books,
            changes: 0,
            #[cfg(any(feature = "alloc", loom))]
            latest: None,
        })
    }
}
