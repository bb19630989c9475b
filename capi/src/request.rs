//! Requests: the pages to be mapped, and their place.

use core::ffi::c_void;

use engine::{MapRequest, Merge, Placement, Prot, Search};

use crate::attrs::kvma_attrs;
use crate::status::Failure;
use crate::user_data::{UserData, kvma_data_ops};

/// Searches from the top: the highest free range is taken.
pub const KVMA_TOP_DOWN: u32 = 1;
/// `hint` counts.
pub const KVMA_HINTED: u32 = 2;
/// A random free range is taken, which follows from `random`: every start that fits is as likely as
/// every other.
pub const KVMA_RANDOMISED: u32 = 4;

/// Conditions on a free range, in bytes. All zero: the lowest free range anywhere.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_search {
    /// `KVMA_TOP_DOWN`, `KVMA_HINTED` and `KVMA_RANDOMISED`, or 0.
    pub flags: u32,
    /// The lowest address that may be used.
    pub first: u64,
    /// The last byte that may be used. 0: there is no end.
    pub last: u64,
    /// The start is a multiple of this power of two. 0: of the page size.
    pub align: u64,
    /// The start is at this offset modulo `align`, such as a file's offset for huge pages.
    pub align_offset: u64,
    /// With `KVMA_HINTED`: the start, rounded down to a page as mmap(2) does, if the range there is
    /// free and in the window, whatever `align` says.
    pub hint: u64,
    /// The number of bytes that stay free on both sides.
    pub guard: u64,
    /// With `KVMA_RANDOMISED`: another number for each search, from a source that programs cannot
    /// predict.
    pub random: u64,
}

impl kvma_search {
    /// # Errors
    ///
    /// `Argument` for unknown flags.
    pub(crate) fn to_search(self) -> Result<Search, Failure> {
        if self.flags & !(KVMA_TOP_DOWN | KVMA_HINTED | KVMA_RANDOMISED) != 0 {
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
        if self.flags & KVMA_RANDOMISED != 0 {
            search = search.random(self.random);
        }
        Ok(search)
    }
}

/// Placement: wherever `search` finds a free range.
pub const KVMA_ANYWHERE: u32 = 0;
/// Placement: at `addr`, replacing what is mapped there (`MAP_FIXED`).
pub const KVMA_FIXED: u32 = 1;
/// Placement: at `addr` if the range is free (`MAP_FIXED_NOREPLACE`).
pub const KVMA_FIXED_NOREPLACE: u32 = 2;

/// A new VMA merges with both neighbours where it can.
pub const KVMA_MERGE_BOTH: u32 = 0;
/// A new VMA merges with the neighbour below only.
pub const KVMA_MERGE_LEFT: u32 = 1;
/// A new VMA merges with the neighbour above only.
pub const KVMA_MERGE_RIGHT: u32 = 2;
/// A new VMA does not merge.
pub const KVMA_MERGE_NEVER: u32 = 3;

/// The place of a new VMA. All zero: the lowest free range.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_placement {
    /// `KVMA_ANYWHERE`, `KVMA_FIXED` or `KVMA_FIXED_NOREPLACE`.
    pub kind: u32,
    /// The address, for the two fixed placements.
    pub addr: u64,
    /// The search, for `KVMA_ANYWHERE`.
    pub search: kvma_search,
}

impl kvma_placement {
    /// # Errors
    ///
    /// `Argument` for an unknown placement or unknown flags of the search.
    pub(crate) fn to_placement(self) -> Result<Placement, Failure> {
        match self.kind {
            KVMA_ANYWHERE => Ok(Placement::Any(self.search.to_search()?)),
            KVMA_FIXED => Ok(Placement::Fixed(self.addr)),
            KVMA_FIXED_NOREPLACE => Ok(Placement::FixedNoReplace(self.addr)),
            _ => Err(Failure::Argument),
        }
    }
}

/// A request for a new VMA. All zero but `len`: anonymous memory without access in the lowest free
/// range.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_request {
    /// The place of the VMA.
    pub placement: kvma_placement,
    /// The length in bytes, a multiple of the page size.
    pub len: u64,
    /// The attributes of the VMA.
    pub attrs: kvma_attrs,
    /// `KVMA_MERGE_BOTH` or the like.
    pub merge: u32,
    /// The user data. It is the map's if the call succeeds, and else still the caller's.
    pub data: *mut c_void,
}

impl kvma_request {
    /// Makes the engine's request, without user data.
    ///
    /// # Errors
    ///
    /// `Argument` for an unknown placement or merge, or unknown flags of the search.
    pub(crate) fn to_map_request(self) -> Result<MapRequest, Failure> {
        let placement = self.placement.to_placement()?;
        Ok(MapRequest::new(placement, self.len, self.attrs.into())
            .with_merge(to_merge(self.merge)?))
    }

    /// Makes the engine's request with user data, which is the caller's until it has been
    /// [taken](UserData::take).
    ///
    /// # Errors
    ///
    /// Those of [`to_map_request`](Self::to_map_request).
    ///
    /// # Safety
    ///
    /// The contract of [`UserData::new`].
    pub(crate) unsafe fn with_user_data(
        self,
        ops: *const kvma_data_ops,
    ) -> Result<MapRequest<UserData>, Failure> {
        // SAFETY: this function's contract.
        let data = unsafe { UserData::new(self.data, ops) };
        Ok(self.to_map_request()?.with_data(data))
    }
}

/// # Errors
///
/// `Argument` for what is none of the `KVMA_MERGE_…`.
pub(crate) fn to_merge(merge: u32) -> Result<Merge, Failure> {
    match merge {
        KVMA_MERGE_BOTH => Ok(Merge::Both),
        KVMA_MERGE_LEFT => Ok(Merge::Left),
        KVMA_MERGE_RIGHT => Ok(Merge::Right),
        KVMA_MERGE_NEVER => Ok(Merge::Never),
        _ => Err(Failure::Argument),
    }
}

/// # Errors
///
/// `Argument` for bits that are no protection.
pub(crate) fn to_prot(prot: u32) -> Result<Prot, Failure> {
    u8::try_from(prot).ok().and_then(Prot::from_bits).ok_or(Failure::Argument)
}
