//! One address space as it is drawn: its VMAs in ascending order.

use std::fmt;

use kvma::linux::VmFlags;
use kvma::linux::maps::{MapsError, MapsLine};

/// The VMAs of an address space at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    vmas: Vec<VmaEntry>,
}

/// One VMA, as a line of `/proc/PID/maps` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VmaEntry {
    start: u64,
    end: u64,
    perms: VmFlags,
    offset: u64,
    inode: u64,
    name: String,
}

/// A maps file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpaceError {
    /// A line, counted from one, is not one that Linux writes.
    Line(usize, MapsError),
    /// The VMA of a line, counted from one, does not lie above the one before.
    Order(usize),
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line, error) => write!(f, "line {line}: {error}"),
            Self::Order(line) => write!(f, "line {line}: not above the VMA of the line before"),
        }
    }
}

impl std::error::Error for SpaceError {}

/// The kind of a VMA's memory. The picture has a colour for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A private mapping of a file: programs and libraries, most of the time.
    File,
    /// Anonymous memory without a name of its own, `.bss` among it.
    Anonymous,
    /// The heap that `brk` grows.
    Heap,
    /// The stack that page faults grow.
    Stack,
    /// Memory that other processes may see: shared mappings of files or of nothing.
    Shared,
    /// Mapped by the kernel itself, such as `[vdso]`.
    Kernel,
}

impl Kind {
    /// All kinds, in the order of the legend.
    pub const ALL: [Self; 6] =
        [Self::File, Self::Anonymous, Self::Heap, Self::Stack, Self::Shared, Self::Kernel];

    /// Returns the word for the kind in legends and tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Anonymous => "anonymous",
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::Shared => "shared",
            Self::Kernel => "kernel",
        }
    }
}

impl VmaEntry {
    /// Returns the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the first byte after the VMA.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns `false`: a VMA has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns READ, WRITE, EXEC and SHARED, as the line shows them.
    pub fn perms(&self) -> VmFlags {
        self.perms
    }

    /// Returns the name: a path, `[heap]`, or an empty string.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the last part of a path, or the whole of another name.
    pub fn short_name(&self) -> &str {
        match self.name.rsplit_once('/') {
            Some((_, last)) if !last.is_empty() && self.name.starts_with('/') => last,
            _ => &self.name,
        }
    }

    /// Returns the four letters of the protection, such as `r-xp`.
    pub fn letters(&self) -> String {
        let letter = |flag, yes| if self.perms.contains(flag) { yes } else { '-' };
        let share = if self.perms.contains(VmFlags::SHARED) { 's' } else { 'p' };
        [letter(VmFlags::READ, 'r'), letter(VmFlags::WRITE, 'w'), letter(VmFlags::EXEC, 'x'), share]
            .iter()
            .collect()
    }

    /// Returns what the memory is.
    pub fn kind(&self) -> Kind {
        match self.name.as_str() {
            "[heap]" => Kind::Heap,
            "[stack]" => Kind::Stack,
            name if name.starts_with("[v") || name == "[uprobes]" || name == "[sigpage]" => {
                Kind::Kernel
            }
            _ if self.perms.contains(VmFlags::SHARED) => Kind::Shared,
            _ if self.inode != 0 => Kind::File,
            _ => Kind::Anonymous,
        }
    }

    fn of_line(line: &MapsLine<'_, [u8]>) -> Self {
        let &MapsLine { start, end, perms, offset, inode, name, .. } = line;
        // A terminal and an XML file take no control characters.
        let name = String::from_utf8_lossy(name)
            .chars()
            .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
            .collect();
        Self { start, end, perms, offset, inode, name }
    }
}

impl fmt::Display for VmaEntry {
    /// Prints the VMA as a line of a maps file, without device and inode.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, offset, name, .. } = self;
        write!(f, "{start:x}-{end:x} {} {offset:08x} {name}", self.letters())
    }
}

impl Space {
    /// Reads a maps file. Names may be in any encoding.
    ///
    /// # Errors
    ///
    /// [`SpaceError`]
    pub fn from_maps(text: &[u8]) -> Result<Self, SpaceError> {
        let mut vmas: Vec<VmaEntry> = Vec::new();
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            if line.is_empty() {
                continue;
            }
            let line =
                MapsLine::parse_bytes(line).map_err(|error| SpaceError::Line(number, error))?;
            if vmas.last().is_some_and(|last| last.end > line.start) {
                return Err(SpaceError::Order(number));
            }
            vmas.push(VmaEntry::of_line(&line));
        }
        Ok(Self { vmas })
    }

    /// Returns the VMAs, in ascending order.
    pub fn vmas(&self) -> &[VmaEntry] {
        &self.vmas
    }
}
