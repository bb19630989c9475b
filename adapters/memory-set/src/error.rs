//! Errors, with the names of `memory_set`.

use core::fmt;

use kvma_area_set::Failure;

/// Why a call was refused. Areas are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingError {
    /// The range is empty or wraps.
    InvalidParam,
    /// The range overlaps with an area.
    AlreadyExists,
    /// A backend has refused, or there was no memory. What other backends had done for this call
    /// was undone as far as they let it be.
    BadState,
}

/// The result of calls, with [`MappingError`].
pub type MappingResult<T = ()> = Result<T, MappingError>;

impl From<Failure> for MappingError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid => Self::InvalidParam,
            Failure::Overlap => Self::AlreadyExists,
            Failure::NoMemory | Failure::Refused | Failure::Unmapped | Failure::Broken => {
                Self::BadState
            }
        }
    }
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidParam => "invalid range",
            Self::AlreadyExists => "range is in use",
            Self::BadState => "a backend has refused",
        })
    }
}

impl core::error::Error for MappingError {}

#[cfg(feature = "axerrno")]
impl From<MappingError> for axerrno::AxError {
    fn from(error: MappingError) -> Self {
        match error {
            MappingError::InvalidParam => Self::InvalidInput,
            MappingError::AlreadyExists => Self::AlreadyExists,
            MappingError::BadState => Self::BadState,
        }
    }
}
