//! Errors: a damaged trace, and a line that cannot be replayed.

use core::fmt;

use kvma::Errno;

/// A line that does not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceError<'a> {
    /// Line number, from 1.
    pub line: usize,
    /// A description of what was expected.
    pub expected: &'static str,
    /// The text that was found.
    pub found: &'a str,
}

impl fmt::Display for TraceError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)?;
        match self.found {
            "" => f.write_str(", found nothing"),
            // Of a long line, its beginning is enough: the number says where to look.
            found => {
                write!(
                    f,
                    ", found `{}`",
                    found.char_indices().nth(60).map_or(found, |(at, _)| &found[..at])
                )
            }
        }
    }
}

impl core::error::Error for TraceError<'_> {}

/// A line that cannot be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayError {
    /// A call or a snapshot stands before `exec` and its initial `maps`.
    NotLoaded,
    /// The initial VMAs could not be mapped.
    Initial(Errno),
    /// The address space could not be cleared or laid out anew for `exec`.
    Exec(Errno),
    /// The stack could not grow to where Linux' stack has grown.
    Stack(Errno),
    /// More descriptors with large numbers than there is room for.
    Descriptors,
    /// There is only one address space: no fork has succeeded, or the line was given to a
    /// [`Machine`](crate::Machine), which replays on one.
    Alone,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => {
                f.write_str("expected exec, start_brk and maps before the first call")
            }
            Self::Initial(errno) => write!(f, "the initial maps cannot be built: {errno}"),
            Self::Exec(errno) => write!(f, "exec failed: {errno}"),
            Self::Stack(errno) => write!(f, "the stack cannot grow to there: {errno}"),
            Self::Descriptors => f.write_str("too many descriptors with large numbers"),
            Self::Alone => f.write_str("there is no other address space"),
        }
    }
}

impl core::error::Error for ReplayError {}
