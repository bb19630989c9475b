//! Reading `/proc/PID/maps`.

use crate::boundary::{call, given, tell};
use crate::status::{Failure, kvma_status};
use core::ffi::c_char;
use engine::linux::{VmFlags, maps};

/// A line of a `/proc/PID/maps` file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_maps_line {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// `KVMA_READ`, `KVMA_WRITE`, `KVMA_EXEC`, `KVMA_SHARED`.
    pub flags: u32,
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Inode number; 0 without a file.
    pub inode: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Path or name, as written; not terminated. It lies in the text.
    pub name: *const c_char,
    /// Length of the name.
    pub name_len: usize,
}

impl From<&maps::MapsLine<'_, [u8]>> for kvma_maps_line {
    fn from(line: &maps::MapsLine<'_, [u8]>) -> kvma_maps_line {
        kvma_maps_line {
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

/// `len` bytes of text.
///
/// # Safety
///
/// NULL or valid.
unsafe fn text<'a>(start: *const c_char, len: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: the caller's; and no more than that many bytes can be there.
    unsafe {
        given(start)?;
        match isize::try_from(len) {
            Ok(_) => Ok(core::slice::from_raw_parts(start.cast(), len)),
            Err(_) => Err(Failure::Argument),
        }
    }
}

/// Reads one line of a `/proc/PID/maps` file, `len` bytes without its newline, to `line`.
/// `KVMA_BAD_ARGUMENT` if it is none that Linux writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_maps_parse_line(
    start: *const c_char,
    len: usize,
    line: *mut kvma_maps_line,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        unsafe {
            let found =
                maps::MapsLine::parse_bytes(text(start, len)?).map_err(|_| Failure::Argument)?;
            tell(line, (&found).into());
        }
        Ok(())
    })
}

/// Reads the `VmFlags:` line of a `/proc/PID/smaps` file, `len` bytes, to `vm_flags`.
/// `KVMA_BAD_ARGUMENT` if it is none, or names a flag that Linux does not have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_maps_parse_vm_flags(
    start: *const c_char,
    len: usize,
    vm_flags: *mut u64,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let line = core::str::from_utf8(text(start, len)?).map_err(|_| Failure::Argument)?;
            let found = maps::vm_flags(line).map_err(|_| Failure::Argument)?;
            tell(vm_flags, found.bits());
        }
        Ok(())
    })
}
