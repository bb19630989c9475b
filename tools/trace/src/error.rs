//! Where a trace is damaged.

use core::fmt;

/// A line that does not follow the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceError<'a> {
    /// Line number, from 1.
    pub line: usize,
    /// What should have stood there.
    pub expected: &'static str,
    /// What stands there.
    pub found: &'a str,
}

impl fmt::Display for TraceError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}", self.line, self.expected)?;
        match self.found {
            "" => f.write_str(", found nothing"),
            // Long lines are cut (at a character): the number says where to look.
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
