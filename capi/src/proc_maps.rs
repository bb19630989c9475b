//! Lines of `/proc/PID/maps` and `/proc/PID/smaps`.

use core::ffi::c_char;
use core::mem::MaybeUninit;

use engine::linux::{VmFlags, maps};

use crate::boundary::{ffi_call, write_out};
use crate::status::{Failure, kvma_status};

/// A line of a `/proc/PID/maps` file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_maps_line {
    /// The first byte.
    pub start: u64,
    /// The first byte behind.
    pub end: u64,
    /// `KVMA_READ`, `KVMA_WRITE`, `KVMA_EXEC` and `KVMA_SHARED`.
    pub flags: u32,
    /// The major device number.
    pub major: u32,
    /// The minor device number.
    pub minor: u32,
    /// The inode number; 0 without a file.
    pub inode: u64,
    /// The offset in the file, in bytes.
    pub offset: u64,
    /// The path or name as written, not terminated. It points into the text.
    pub name: *const c_char,
    /// The length of the name.
    pub name_len: usize,
}

impl From<&maps::MapsLine<'_, [u8]>> for kvma_maps_line {
    fn from(line: &maps::MapsLine<'_, [u8]>) -> Self {
        Self {
            start: line.start,
            end: line.end,
            flags: (line.perms & (VmFlags::ACCESS | VmFlags::SHARED)).bits() as u32,
            major: line.major,
            minor: line.minor,
            inode: line.inode,
            offset: line.offset,
            name: line.name.as_ptr().cast(),
            name_len: line.name.len(),
        }
    }
}

/// Returns the text as bytes.
///
/// # Errors
///
/// `Null`, and `Argument` for a length that no text can have.
///
/// # Safety
///
/// `start` is NULL or points to `len` bytes that do not change as long as the slice is used.
unsafe fn bytes<'a>(start: *const c_char, len: usize) -> Result<&'a [u8], Failure> {
    if start.is_null() {
        return Err(Failure::Null);
    }
    isize::try_from(len).map_err(|_| Failure::Argument)?;
    // SAFETY: not NULL, so there are `len` bytes by this function's contract, and no more than
    // `isize::MAX`.
    Ok(unsafe { core::slice::from_raw_parts(start.cast(), len) })
}

/// Reads one line of a `/proc/PID/maps` file, `len` bytes without its newline, and writes it to
/// `line`. `KVMA_BAD_ARGUMENT` for what Linux does not write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_maps_parse_line(
    start: *const c_char,
    len: usize,
    line: Option<&mut MaybeUninit<kvma_maps_line>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `start` is NULL or points to `len` bytes, as the caller promises.
        let text = unsafe { bytes(start, len) }?;
        let found = maps::MapsLine::parse_bytes(text).map_err(|_| Failure::Argument)?;
        write_out(line, (&found).into());
        Ok(())
    })
}

/// Reads the `VmFlags:` line of a `/proc/PID/smaps` file, `len` bytes, and writes the flags to
/// `vm_flags`. `KVMA_BAD_ARGUMENT` for another line, or a flag that Linux does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_maps_parse_vm_flags(
    start: *const c_char,
    len: usize,
    vm_flags: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `start` is NULL or points to `len` bytes, as the caller promises.
        let text = unsafe { bytes(start, len) }?;
        let line = core::str::from_utf8(text).map_err(|_| Failure::Argument)?;
        let found = maps::vm_flags(line).map_err(|_| Failure::Argument)?;
        write_out(vm_flags, found.bits());
        Ok(())
    })
}
