//! The backings that a trace names.

use core::fmt;

use kvma::linux::{Alignment, File, Restrictions};

/// The backing of a mapping, `MAJOR:MINOR INODE NAME`, borrowed from the trace.
///
/// Two are equal if device and inode are equal: a file that was renamed between two calls is one
/// object. Without an inode, the names decide. Each attachment of a segment of System V shared
/// memory is an object of its own.
#[derive(Clone, Copy)]
pub struct Backing<'a> {
    text: &'a str,
    /// The bytes of a segment of System V shared memory, or 0.
    segment: u64,
}

impl<'a> Backing<'a> {
    /// A backing that was checked when it was parsed.
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, segment: 0 }
    }

    /// A segment of System V shared memory of `bytes` bytes, as one line attaches it.
    pub(crate) const fn attached(self, bytes: u64) -> Self {
        Self { segment: bytes, ..self }
    }

    pub(crate) const fn text(&self) -> &'a str {
        self.text
    }

    fn fields(&self) -> ((u32, u32), u64, &'a str) {
        // The text was checked when this was made.
        kvma::linux::maps::object(self.text).unwrap_or(((0, 0), 0, ""))
    }

    /// Parses `MAJOR:MINOR INODE NAME`.
    pub fn parse(text: &'a str) -> Option<Self> {
        kvma::linux::maps::object(text).ok().map(|_| Self::new(text))
    }

    /// Returns the path, or a name in brackets.
    pub fn name(&self) -> &'a str {
        self.fields().2
    }
}

impl PartialEq for Backing<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.segment != 0 || other.segment != 0 {
            return core::ptr::eq(self.text, other.text);
        }
        let (device, inode, name) = self.fields();
        let (other_device, other_inode, other_name) = other.fields();
        device == other_device && inode == other_inode && (inode != 0 || name == other_name)
    }
}

impl Eq for Backing<'_> {}

impl File for Backing<'_> {
    fn id(&self) -> u64 {
        let ((major, minor), inode, _) = self.fields();
        // `==` still tells objects apart whose numbers are equal here.
        inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(major) << 32 ^ u64::from(minor)
    }

    fn device(&self) -> (u32, u32) {
        self.fields().0
    }

    fn inode(&self) -> u64 {
        self.fields().1
    }

    fn write_name(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        // /proc/PID/maps puts the brackets around a name of anonymous memory.
        let name = self.name();
        let bare = name.strip_prefix("[anon:").and_then(|name| name.strip_suffix(']'));
        out.write_str(bare.unwrap_or(name))
    }

    fn segment_size(&self) -> Option<u64> {
        Some(self.segment).filter(|&bytes| bytes != 0)
    }

    fn restrictions(&self) -> Restrictions {
        match self.segment {
            0 => Restrictions::empty(),
            _ => Restrictions::NO_JOINT_MOVE,
        }
    }

    fn alignment(&self) -> Alignment {
        // The one file system in the traces that aligns mappings for huge pages.
        if self.fields().0 == EXT4 { Alignment::Huge } else { Alignment::Page }
    }
}

/// The device number of the ext4 file system in traces.
pub(crate) const EXT4: (u32, u32) = (0xfe, 0);

impl fmt::Debug for Backing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
