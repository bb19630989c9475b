//! Reading `/proc/PID/maps`, line by line (proc_pid_maps(5)).

use core::fmt;

use crate::linux::VmFlags;

/// One line of a maps file. Names are borrowed from the text, and kept as Linux wrote them: a
/// newline in a path reads `\012`, and an unlinked file ends in ` (deleted)`.
///
/// A path may hold any bytes. `T` is what the text is made of: `str`, or `[u8]` for a file that may
/// not be UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct MapsLine<'a, T: ?Sized = str> {
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
    pub name: &'a T,
    /// Device, inode and all behind them, as written: what identifies the object.
    pub backing: &'a T,
}

impl<T: ?Sized> Clone for MapsLine<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for MapsLine<'_, T> {}

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
fn cut<'a>(
    text: &'a [u8],
    separator: u8,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), MapsError> {
    let at = text.iter().position(|&byte| byte == separator).ok_or(expected(what))?;
    let (before, rest) = text.split_at(at);
    Ok((before, rest.get(1..).unwrap_or_default()))
}

/// Digits and nothing else: `from_str_radix` alone would take a sign.
fn number(digits: &[u8], radix: u32, what: &'static str) -> Result<u64, MapsError> {
    let digits = core::str::from_utf8(digits).map_err(|_| expected(what))?;
    if digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        u64::from_str_radix(digits, radix).map_err(|_| expected(what))
    } else {
        Err(expected(what))
    }
}

/// How a part of a text is borrowed from it.
type Part<'a, T> = fn(&'a T, usize) -> &'a T;

impl<'a> MapsLine<'a> {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// What was expected where the line goes astray, also for a VMA that ends before it starts.
    pub fn parse(line: &'a str) -> Result<Self, MapsError> {
        // Parts begin behind a space, or where the text ends.
        Self::read(line, line.as_bytes(), |text, at| text.get(at..).unwrap_or_default())
    }
}

impl<'a> MapsLine<'a, [u8]> {
    /// The same for a line whose path may be in any encoding, or none.
    ///
    /// # Errors
    /// As [`MapsLine::parse`].
    pub fn parse_bytes(line: &'a [u8]) -> Result<Self, MapsError> {
        Self::read(line, line, |text, at| text.get(at..).unwrap_or_default())
    }
}

impl<'a, T: ?Sized> MapsLine<'a, T> {
    fn read(text: &'a T, line: &[u8], behind: Part<'a, T>) -> Result<Self, MapsError> {
        let (start, rest) = cut(line, b'-', "START-END, hexadecimal")?;
        let (end, rest) = cut(rest, b' ', "a space after START-END")?;
        let start = number(start, 16, "START, hexadecimal")?;
        let end = number(end, 16, "END, hexadecimal")?;
        if end <= start {
            return Err(expected("END above START"));
        }
        let (perms, rest) = cut(rest, b' ', "permissions")?;
        let perms = permissions(perms)?;
        let (offset, rest) = cut(rest, b' ', "an offset")?;
        let offset = number(offset, 16, "an offset, hexadecimal")?;
        let ((major, minor), inode, name) = device_and_inode(rest)?;
        let backing = behind(text, line.len() - rest.len());
        let name = behind(text, line.len() - name.len());
        Ok(Self { start, end, perms, offset, major, minor, inode, name, backing })
    }
}

/// `rwxp`: each letter or a dash, then `p` or `s`.
fn permissions(text: &[u8]) -> Result<VmFlags, MapsError> {
    const WHAT: MapsError = expected("permissions such as r-xp");
    let letters: [u8; 4] = text.try_into().map_err(|_| WHAT)?;
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

/// Device, inode and name.
type Object<'a, T> = ((u32, u32), u64, &'a T);

/// `MAJOR:MINOR INODE` and perhaps a name: device, inode and name. Any number of spaces may stand
/// before the name.
///
/// # Errors
/// What was expected where the text goes astray.
pub fn object(text: &str) -> Result<((u32, u32), u64, &str), MapsError> {
    let (device, inode, name) = device_and_inode(text.as_bytes())?;
    // The name begins behind a space, or where the text ends.
    Ok((device, inode, text.get(text.len() - name.len()..).unwrap_or_default()))
}

/// [`object`] of bytes.
fn device_and_inode(text: &[u8]) -> Result<Object<'_, [u8]>, MapsError> {
    const DEVICE: &str = "a device, MAJOR:MINOR, hexadecimal";
    let (major, rest) = cut(text, b':', DEVICE)?;
    let (minor, rest) = cut(rest, b' ', DEVICE)?;
    let half = |digits| {
        number(digits, 16, DEVICE).and_then(|n| u32::try_from(n).map_err(|_| expected(DEVICE)))
    };
    let device = (half(major)?, half(minor)?);
    let inode = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
    let (inode, name) = rest.split_at(inode);
    let spaces = name.iter().take_while(|&&byte| byte == b' ').count();
    Ok((device, number(inode, 10, "an inode, decimal")?, name.get(spaces..).unwrap_or_default()))
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

/// Reads all of a maps file in which paths may be in any encoding.
pub fn parse_bytes(text: &[u8]) -> impl Iterator<Item = Result<MapsLine<'_, [u8]>, MapsError>> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(MapsLine::parse_bytes)
}
