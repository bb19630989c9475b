//! Why a call was refused.

use core::fmt;

use kvma::Error;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The range is empty, wraps, or is not that of an area. Nothing has changed.
    Invalid,
    /// The range is in use. Nothing has changed.
    Overlap,
    /// No memory for nodes. Nothing has changed.
    NoMemory,
    /// A backend has refused, and the page table is as it was.
    Refused,
    /// A backend has refused to be unmapped. Areas are as they were, but those below are not in
    /// the page table any more: the call can be made again.
    Unmapped,
    /// A backend has refused, and another one has refused to undo what it had done. Areas are as
    /// they were, the page table is not.
    Broken,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Overlap => Self::Overlap,
            Error::OutOfMemory => Self::NoMemory,
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "the range is invalid",
            Self::Overlap => "the range is in use",
            Self::NoMemory => "out of memory",
            Self::Refused => "a backend has refused",
            Self::Unmapped => "a backend has refused, areas below are unmapped",
            Self::Broken => "a backend has refused, and what was done could not be undone",
        })
    }
}

impl core::error::Error for Failure {}
