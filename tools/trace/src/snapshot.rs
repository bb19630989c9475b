//! The `maps` blocks of a trace.

use kvma::linux::VmFlags;
use kvma::linux::maps::{self, MapsLine};

use crate::backing::Backing;

/// A `maps` block: the lines of `/proc/PID/maps`. A `VmFlags:` line may follow each.
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
    /// One past the last byte.
    pub end: u64,
    /// READ, WRITE, EXEC and SHARED, as they are printed.
    pub perms: VmFlags,
    /// Offset in the object, in bytes.
    pub offset: u64,
    /// Device, inode and name.
    pub backing: Backing<'a>,
    /// All flags, if they are known.
    pub flags: Option<VmFlags>,
}

impl<'a> Snapshot<'a> {
    /// Makes a snapshot of a block whose lines the parser has checked.
    pub(crate) fn new(text: &'a str, count: Option<usize>, first_line: usize) -> Self {
        Self { text, count, first_line }
    }

    /// Returns the number of VMAs, or `None` if the answer was taken out of the trace.
    pub fn count(&self) -> Option<usize> {
        self.count
    }

    /// Returns the lines of the block, without its `maps` line.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the number of the line that follows the `maps` line, from 1.
    pub fn first_line(&self) -> usize {
        self.first_line
    }

    /// Iterates over the VMAs in the order of the block.
    pub fn vmas(&self) -> SnapshotVmas<'a> {
        SnapshotVmas { rest: self.text }
    }
}

impl SnapshotVma<'_> {
    /// Returns the permissions of a VMA with these flags as a maps line prints them: `s` means
    /// `MAY_SHARE`.
    pub(crate) fn perms(flags: VmFlags) -> VmFlags {
        let mut perms = flags & VmFlags::ACCESS;
        perms.set(VmFlags::SHARED, flags.contains(VmFlags::MAY_SHARE));
        perms
    }
}

/// Iterator over the VMAs of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct SnapshotVmas<'a> {
    rest: &'a str,
}

impl<'a> Iterator for SnapshotVmas<'a> {
    type Item = SnapshotVma<'a>;

    fn next(&mut self) -> Option<SnapshotVma<'a>> {
        let (line, mut rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        // The parser has checked every line, so the block ends where one does not parse.
        let line = MapsLine::parse(line).ok()?;
        let mut flags = None;
        let (next, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if let Ok(found) = maps::vm_flags(next) {
            flags = Some(found);
            rest = behind;
        }
        self.rest = rest;
        let MapsLine { start, end, perms, offset, backing, .. } = line;
        Some(SnapshotVma { start, end, perms, offset, backing: Backing::new(backing), flags })
    }
}
