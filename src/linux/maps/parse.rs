//! Reading `/proc/PID/maps`, line by line (`proc_pid_maps(5)`).

use core::fmt;

use crate::linux::VmFlags;

/// One line of a maps file.
///
/// Names are borrowed from the text, as Linux wrote them: a newline in a path reads `\012`, and an
/// unlinked file ends in ` (deleted)`. A path may hold any bytes, so `T` is the kind of text:
/// `str`, or `[u8]` for a file that may not be UTF-8.
///
/// ```
/// use kvma::linux::VmFlags;
/// use kvma::linux::maps::MapsLine;
///
/// let line = MapsLine::parse("7f12e4000000-7f12e4021000 r-xp 0002a000 fe:00 1313  /lib/libc.so")?;
/// assert_eq!((line.start, line.offset, line.inode), (0x7f12_e400_0000, 0x2a000, 1313));
/// assert_eq!(line.perms, VmFlags::READ | VmFlags::EXEC);
/// assert_eq!(line.name, "/lib/libc.so");
/// # Ok::<(), kvma::linux::maps::MapsError>(())
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct MapsLine<'a, T: ?Sized = str> {
    /// First byte.
    pub start: u64,
    /// First byte after the VMA.
    pub end: u64,
    /// READ, WRITE, EXEC, and SHARED where the line says `s`, which Linux prints for `MAY_SHARE`.
    pub perms: VmFlags,
    /// Offset in the object, in bytes.
    pub offset: u64,
    /// Device number, major.
    pub major: u32,
    /// Device number, minor.
    pub minor: u32,
    /// Inode number, 0 if there is no object.
    pub inode: u64,
    /// The text after the padding, or an empty string.
    pub name: &'a T,
    /// Device, inode and everything after them, as written: it identifies the object.
    pub backing: &'a T,
}

impl<T: ?Sized> Clone for MapsLine<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for MapsLine<'_, T> {}

/// A line is not one that Linux writes.
///
/// ```
/// use kvma::linux::maps::MapsLine;
///
/// let error = MapsLine::parse("00400000-00401000 r?xp").unwrap_err();
/// assert_eq!(error.to_string(), "not a line of /proc/PID/maps: expected permissions");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapsError {
    /// The thing that was expected where the line goes astray.
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

/// Splits `text` at the first `separator`, which is dropped. `what` was expected if there is none.
fn split_once<'a>(
    text: &'a [u8],
    separator: u8,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), MapsError> {
    let at = text.iter().position(|&byte| byte == separator).ok_or(expected(what))?;
    let (before, rest) = text.split_at(at);
    Ok((before, rest.get(1..).unwrap_or_default()))
}

/// Reads a number of digits and nothing else: `from_str_radix` alone would take a sign.
fn number(digits: &[u8], radix: u32, what: &'static str) -> Result<u64, MapsError> {
    let digits = core::str::from_utf8(digits).map_err(|_| expected(what))?;
    if digits.bytes().all(|digit| char::from(digit).is_digit(radix)) {
        u64::from_str_radix(digits, radix).map_err(|_| expected(what))
    } else {
        Err(expected(what))
    }
}

/// Borrows the part of a text that begins at a byte index.
type Suffix<'a, T> = fn(&'a T, usize) -> &'a T;

impl<'a> MapsLine<'a> {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    ///
    /// The line is not one that Linux writes, or its VMA ends before it starts.
    pub fn parse(line: &'a str) -> Result<Self, MapsError> {
        // A suffix begins after a space, or where the text ends.
        Self::read(line, line.as_bytes(), |text, at| text.get(at..).unwrap_or_default())
    }
}

impl<'a> MapsLine<'a, [u8]> {
    /// Reads one line, without its newline, whose path may be in any encoding or none.
    ///
    /// # Errors
    ///
    /// Those of [`MapsLine::parse`].
    pub fn parse_bytes(line: &'a [u8]) -> Result<Self, MapsError> {
        Self::read(line, line, |text, at| text.get(at..).unwrap_or_default())
    }
}

impl<'a, T: ?Sized> MapsLine<'a, T> {
    fn read(text: &'a T, line: &[u8], suffix: Suffix<'a, T>) -> Result<Self, MapsError> {
        let (start, rest) = split_once(line, b'-', "START-END, hexadecimal")?;
        let (end, rest) = split_once(rest, b' ', "a space after START-END")?;
        let start = number(start, 16, "START, hexadecimal")?;
        let end = number(end, 16, "END, hexadecimal")?;
        if end <= start {
            return Err(expected("END above START"));
        }
        let (perms, rest) = split_once(rest, b' ', "permissions")?;
        let perms = permissions(perms)?;
        let (offset, rest) = split_once(rest, b' ', "an offset")?;
        let offset = number(offset, 16, "an offset, hexadecimal")?;
        let ((major, minor), inode, name) = device_and_inode(rest)?;
        let backing = suffix(text, line.len() - rest.len());
        let name = suffix(text, line.len() - name.len());
        Ok(Self { start, end, perms, offset, major, minor, inode, name, backing })
    }
}

/// Reads `rwxp`: each letter or a dash, then `p` or `s`.
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

/// Reads `MAJOR:MINOR INODE` and perhaps a name. Returns device, inode and name.
///
/// Any number of spaces may stand before the name.
///
/// # Errors
///
/// The text is not of that form.
///
/// ```
/// use kvma::linux::maps::object;
///
/// let (device, inode, name) = object("fe:00 1313    /lib/libc.so")?;
/// assert_eq!((device, inode, name), ((0xfe, 0), 1313, "/lib/libc.so"));
/// # Ok::<(), kvma::linux::maps::MapsError>(())
/// ```
pub fn object(text: &str) -> Result<((u32, u32), u64, &str), MapsError> {
    let (device, inode, name) = device_and_inode(text.as_bytes())?;
    // The name begins after a space, or where the text ends.
    Ok((device, inode, text.get(text.len() - name.len()..).unwrap_or_default()))
}

/// Reads bytes as [`object`] does.
fn device_and_inode(text: &[u8]) -> Result<Object<'_, [u8]>, MapsError> {
    const DEVICE: &str = "a device, MAJOR:MINOR, hexadecimal";
    let (major, rest) = split_once(text, b':', DEVICE)?;
    let (minor, rest) = split_once(rest, b' ', DEVICE)?;
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
///
/// The line starts otherwise, or has a mnemonic that Linux does not.
///
/// ```
/// use kvma::linux::VmFlags;
/// use kvma::linux::maps::vm_flags;
///
/// let stack = vm_flags("VmFlags: rd wr mr mw me gd ac ")?;
/// assert!(stack.contains(VmFlags::GROWS_DOWN));
/// # Ok::<(), kvma::linux::maps::MapsError>(())
/// ```
pub fn vm_flags(line: &str) -> Result<VmFlags, MapsError> {
    let list = line.strip_prefix("VmFlags:").ok_or(expected("VmFlags:"))?;
    list.split_ascii_whitespace().try_fold(VmFlags::empty(), |flags, two| {
        VmFlags::from_mnemonic(two)
            .map(|flag| flags | flag)
            .ok_or(expected("a mnemonic of proc_pid_smaps(5)"))
    })
}

/// Splits a text at newlines, as `split` does, but in a way of which the compiler can see that it
/// does not panic.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|byte| byte == b'\n').unwrap_or(text.len());
        rest = text.get(end.saturating_add(1)..);
        text.get(..end)
    })
}

/// Reads a whole maps file, line by line. Empty lines are passed over.
///
/// ```
/// use kvma::linux::maps::parse;
///
/// // The pages that a program can write to.
/// let text = "\
/// 00400000-00401000 r-xp 00000000 08:01 7 /bin/true
/// 00401000-00403000 rw-p 00001000 08:01 7 /bin/true
/// ";
/// let mut pages = 0;
/// for line in parse(text) {
///     let line = line?;
///     if line.perms.contains(kvma::linux::VmFlags::WRITE) {
///         pages += (line.end - line.start) / 0x1000;
///     }
/// }
/// assert_eq!(pages, 2);
/// # Ok::<(), kvma::linux::maps::MapsError>(())
/// ```
pub fn parse(text: &str) -> impl Iterator<Item = Result<MapsLine<'_>, MapsError>> {
    lines(text).filter(|line| !line.is_empty()).map(MapsLine::parse)
}

/// Reads a whole maps file, line by line, in which paths may be in any encoding.
///
/// ```
/// use kvma::linux::maps::parse_bytes;
///
/// // A path in Latin-1.
/// let text = b"00400000-00401000 r-xp 00000000 08:01 7 /bin/caf\xe9\n";
/// let mut lines = parse_bytes(text);
/// assert_eq!(lines.next().and_then(Result::ok).map(|line| line.name), Some(&b"/bin/caf\xe9"[..]));
/// ```
pub fn parse_bytes(text: &[u8]) -> impl Iterator<Item = Result<MapsLine<'_, [u8]>, MapsError>> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(MapsLine::parse_bytes)
}
