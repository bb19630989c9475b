//! Reading `/proc/PID/maps`, line by line (proc_pid_maps(5)).

use core::fmt;

use crate::linux::VmFlags;

/// One line of a maps file. Names are borrowed from the text, and kept as Linux wrote them: a newline in a path reads
/// `\012`, and an unlinked file ends in ` (deleted)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapsLine<'a> {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// READ, WRITE, EXEC, and SHARED where the line says `s` (which Linux prints for MAY_SHARE).
    pub perms: VmFlags,
    /// Offset in the object, in bytes.
    pub offset: u64,
    /// Device number, major.
    pub major: u32,
    /// Device number, minor.
    pub minor: u32,
    /// Inode number, 0 if there is no object.
    pub inode: u64,
    /// What follows the padding, or an empty string.
    pub name: &'a str,
    /// Device, inode and all behind them, as written: what identifies the object.
    pub backing: &'a str,
}

/// Why a line is not one that Linux writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapsError {
    /// What should have stood there.
    pub expected: &'static str,
}

impl fmt::Display for MapsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a line of /proc/PID/maps: expected {}", self.expected)
    }
}

impl core::error::Error for MapsError {}

const fn expected(expected: &'static str) -> MapsError {
    MapsError { expected }
}

/// Cuts `text` at the first `separator`, which is dropped.
fn cut<'a>(text: &'a str, separator: char, what: &'static str) -> Result<(&'a str, &'a str), MapsError> {
    text.split_once(separator).ok_or(expected(what))
}

/// Hexadecimal digits and nothing else: `from_str_radix` alone would take a sign.
fn hex(digits: &str, what: &'static str) -> Result<u64, MapsError> {
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        u64::from_str_radix(digits, 16).map_err(|_| expected(what))
    } else {
        Err(expected(what))
    }
}

impl<'a> MapsLine<'a> {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// What was expected where the line goes astray, also for an area that ends before it starts.
    pub fn parse(line: &'a str) -> Result<Self, MapsError> {
        let (start, rest) = cut(line, '-', "START-END, hexadecimal")?;
        let (end, rest) = cut(rest, ' ', "a space after START-END")?;
        let start = hex(start, "START, hexadecimal")?;
        let end = hex(end, "END, hexadecimal")?;
        if end <= start {
            return Err(expected("END above START"));
        }
        let (perms, rest) = cut(rest, ' ', "permissions")?;
        let perms = permissions(perms)?;
        let (offset, backing) = cut(rest, ' ', "an offset")?;
        let offset = hex(offset, "an offset, hexadecimal")?;
        let (device, inode, name) = object(backing)?;
        Ok(Self { start, end, perms, offset, major: device.0, minor: device.1, inode, name, backing })
    }
}

/// `rwxp`: each letter or a dash, then `p` or `s`.
fn permissions(text: &str) -> Result<VmFlags, MapsError> {
    const WHAT: MapsError = expected("permissions such as r-xp");
    let letters: [u8; 4] = text.as_bytes().try_into().map_err(|_| WHAT)?;
    let known = [(b'r', VmFlags::READ), (b'w', VmFlags::WRITE), (b'x', VmFlags::EXEC)];
    let mut perms = VmFlags::empty();
    for (letter, (name, flag)) in letters.into_iter().zip(known) {
        match letter {
            b'-' => {}
            other if other == name => perms |= flag,
            _ => return Err(WHAT),
        }
    }
    match letters[3] {
        b'p' => Ok(perms),
        b's' => Ok(perms | VmFlags::SHARED),
        _ => Err(WHAT),
    }
}

/// `MAJOR:MINOR INODE` and perhaps a name: device, inode and name. Any number of spaces may stand before the name.
///
/// # Errors
/// What was expected where the text goes astray.
pub fn object(text: &str) -> Result<((u32, u32), u64, &str), MapsError> {
    const DEVICE: &str = "a device, MAJOR:MINOR, hexadecimal";
    let (major, rest) = cut(text, ':', DEVICE)?;
    let (minor, rest) = cut(rest, ' ', DEVICE)?;
    let number = |digits| hex(digits, DEVICE).and_then(|n| u32::try_from(n).map_err(|_| expected(DEVICE)));
    let device = (number(major)?, number(minor)?);
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    if !inode.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(expected("an inode, decimal"));
    }
    let inode = inode.parse().map_err(|_| expected("an inode, decimal"))?;
    Ok((device, inode, name.trim_start_matches(' ')))
}

/// Reads the `VmFlags:` line of a smaps file.
///
/// # Errors
/// A line that does not start so, or a mnemonic that Linux does not have.
pub fn vm_flags(line: &str) -> Result<VmFlags, MapsError> {
    let list = line.strip_prefix("VmFlags:").ok_or(expected("VmFlags:"))?;
    list.split_ascii_whitespace().try_fold(VmFlags::empty(), |flags, two| {
        VmFlags::from_mnemonic(two)
            .map(|flag| flags | flag)
            .ok_or(expected("a mnemonic of proc_pid_smaps(5)"))
    })
}

/// Reads all of a maps file.
pub fn parse(text: &str) -> impl Iterator<Item = Result<MapsLine<'_>, MapsError>> {
    text.split('\n').filter(|line| !line.is_empty()).map(MapsLine::parse)
}
