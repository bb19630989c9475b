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

/// One VMA of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotVma<'a> {
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

    /// Number of VMAs, or `None` if the answer was taken out.
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

    /// The VMAs in the order of the block.
    pub fn vmas(&self) -> VMAs<'a> {
        VMAs { rest: self.text }
    }
}

/// Iterator over the VMAs of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct VMAs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for VMAs<'a> {
    type Item = SnapshotVma<'a>;

    fn next(&mut self) -> Option<SnapshotVma<'a>> {
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
        Some(SnapshotVma { start, end, perms, offset, backing: Backing { text: backing }, flags })
    }
}
