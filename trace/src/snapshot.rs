//! The `maps` blocks of a trace.

use kvma::linux::VmFlags;
use kvma::linux::maps::{self, MapsLine};

use crate::line::Backing;

/// A `maps` block: the lines of `/proc/PID/maps`, each perhaps followed by its `VmFlags:` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot<'a> {
    text: &'a str,
    count: Option<usize>,
    first_line: usize,
}

/// One area of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area<'a> {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// READ, WRITE, EXEC and SHARED, as printed.
    pub perms: VmFlags,
    /// Offset in the object, in bytes.
    pub offset: u64,
    /// Device, inode and name.
    pub backing: Backing<'a>,
    /// All flags, where they are known.
    pub flags: Option<VmFlags>,
}

impl<'a> Snapshot<'a> {
    /// A block whose lines the parser has checked.
    pub(crate) fn new(text: &'a str, count: Option<usize>, first_line: usize) -> Self {
        Self { text, count, first_line }
    }

    /// Number of areas, or `None` if the answer was taken out.
    pub fn count(&self) -> Option<usize> {
        self.count
    }

    /// The block's lines below its `maps` line.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Number of the first line below the `maps` line.
    pub fn first_line(&self) -> usize {
        self.first_line
    }

    /// The areas in the order of the block.
    pub fn areas(&self) -> Areas<'a> {
        Areas { rest: self.text }
    }
}

/// Iterator over the areas of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct Areas<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Areas<'a> {
    type Item = Area<'a>;

    fn next(&mut self) -> Option<Area<'a>> {
        let (line, mut rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        // The parser has checked every line; the block ends where one does not parse.
        let line = MapsLine::parse(line).ok()?;
        let mut flags = None;
        let (next, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if let Ok(found) = maps::vm_flags(next) {
            flags = Some(found);
            rest = behind;
        }
        self.rest = rest;
        let MapsLine { start, end, perms, offset, backing, .. } = line;
        Some(Area { start, end, perms, offset, backing: Backing { text: backing }, flags })
    }
}
