//! What is to be mapped, and where.

use crate::attrs::kvma_attrs;
use crate::status::Failure;
use core::ffi::c_void;
use engine::{Merge, Placement, Search};

/// From the top: the highest free range.
pub const KVMA_TOP_DOWN: u32 = 1;
/// `hint` says something.
pub const KVMA_HINTED: u32 = 2;

/// What a free range must be like, in bytes. All zero: the lowest one anywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_search {
    /// `KVMA_TOP_DOWN`, `KVMA_HINTED`.
    pub flags: u32,
    /// Only from here on.
    pub first: u64,
    /// Only up to this byte. 0: no end.
    pub last: u64,
    /// At a multiple of this power of two. 0: of a page.
    pub align: u64,
    /// At this, modulo the alignment, such as a file's offset for huge pages.
    pub align_offset: u64,
    /// With `KVMA_HINTED`: here if that is free and in the window, aligned or not.
    pub hint: u64,
    /// With so many bytes free on both sides.
    pub guard: u64,
}

impl kvma_search {
    pub(crate) fn to_search(self) -> Result<Search, Failure> {
        if self.flags & !(KVMA_TOP_DOWN | KVMA_HINTED) != 0 {
            return Err(Failure::Argument);
        }
        let last = if self.last == 0 { u64::MAX } else { self.last };
        let mut search = Search::new()
            .window(self.first, last)
            .align(self.align.max(1))
            .align_offset(self.align_offset)
            .guard(self.guard);
        if self.flags & KVMA_TOP_DOWN != 0 {
            search = search.top_down();
        }
        if self.flags & KVMA_HINTED != 0 {
            search = search.hint(self.hint);
        }
        Ok(search)
    }
}

/// Wherever `search` finds room.
pub const KVMA_ANYWHERE: u32 = 0;
/// At `addr`; what is mapped there is replaced (`MAP_FIXED`).
pub const KVMA_FIXED: u32 = 1;
/// At `addr`, if it is free (`MAP_FIXED_NOREPLACE`).
pub const KVMA_FIXED_NOREPLACE: u32 = 2;

/// A new VMA is joined with both neighbours where it can be.
pub const KVMA_MERGE_BOTH: u32 = 0;
/// With the one below only.
pub const KVMA_MERGE_LEFT: u32 = 1;
/// With the one above only.
pub const KVMA_MERGE_RIGHT: u32 = 2;
/// With neither.
pub const KVMA_MERGE_NEVER: u32 = 3;

/// A new VMA. All zero but `len` is one: anonymous memory without access at the lowest free place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_request {
    /// `KVMA_ANYWHERE`, `KVMA_FIXED`, `KVMA_FIXED_NOREPLACE`.
    pub place: u32,
    /// `KVMA_MERGE_BOTH` and the like.
    pub merge: u32,
    /// Length in bytes, a multiple of the page size.
    pub len: u64,
    /// Where, for the two fixed places.
    pub addr: u64,
    /// Where, for `KVMA_ANYWHERE`.
    pub search: kvma_search,
    /// What it is like.
    pub attrs: kvma_attrs,
    /// The owner's data. If the call fails, it is still the caller's.
    pub data: *mut c_void,
}

impl kvma_request {
    pub(crate) fn placement(&self) -> Result<Placement, Failure> {
        match self.place {
            KVMA_ANYWHERE => Ok(Placement::Any(self.search.to_search()?)),
            KVMA_FIXED => Ok(Placement::Fixed(self.addr)),
            KVMA_FIXED_NOREPLACE => Ok(Placement::FixedNoReplace(self.addr)),
            _ => Err(Failure::Argument),
        }
    }
}

pub(crate) fn merge(merge: u32) -> Result<Merge, Failure> {
    match merge {
        KVMA_MERGE_BOTH => Ok(Merge::Both),
        KVMA_MERGE_LEFT => Ok(Merge::Left),
        KVMA_MERGE_RIGHT => Ok(Merge::Right),
        KVMA_MERGE_NEVER => Ok(Merge::Never),
        _ => Err(Failure::Argument),
    }
}
