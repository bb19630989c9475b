//! Errors, with the names of `ax-memory-set`.

use core::fmt;

use kvma_area_set::Failure;

/// Why a call was refused. Areas are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// The range is empty or wraps, or no area is as the call needs it.
    InvalidParam,
    /// The range overlaps with an area.
    AlreadyExists,
    /// A backend has refused, or there was no memory. The page table is as it was, but for what
    /// `unmap` has unmapped: that call can be made again.
    BadState,
    /// A backend has refused, and the page table could not be made what it was.
    NeedsRepair,
}

/// The result of calls, with [`MappingError`].
pub type MappingResult<T = ()> = Result<T, MappingError>;

impl From<Failure> for MappingError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid => Self::InvalidParam,
            Failure::Overlap => Self::AlreadyExists,
            Failure::NoMemory | Failure::Refused | Failure::Unmapped => Self::BadState,
            Failure::Broken => Self::NeedsRepair,
        }
    }
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidParam => "invalid range",
            Self::AlreadyExists => "range is in use",
            Self::BadState => "a backend has refused",
            Self::NeedsRepair => "the page table needs repair",
        })
    }
}

impl core::error::Error for MappingError {}
