//! Answers.

use core::ffi::{CStr, c_char};
use engine::Error;

/// What a call answers: `KVMA_OK`, a positive `KVMA_…` code, or, where a `prepare` hook refused,
/// the hook's errno as a negative number. Whatever the answer, a call that did not succeed has
/// changed nothing.
pub type kvma_status = i32;

/// Done.
pub const KVMA_OK: i32 = 0;
/// The allocator had no memory to give.
pub const KVMA_OUT_OF_MEMORY: i32 = 1;
/// No free range of that length and alignment lies in the window.
pub const KVMA_NO_SPACE: i32 = 2;
/// An address, length, alignment or offset is not a multiple of the page size; or a page size or
/// alignment is not a power of two.
pub const KVMA_UNALIGNED: i32 = 3;
/// A length of zero.
pub const KVMA_ZERO_LENGTH: i32 = 4;
/// The range wraps, or reaches beyond the address space.
pub const KVMA_OUT_OF_RANGE: i32 = 5;
/// The range is (partly) in use.
pub const KVMA_OVERLAP: i32 = 6;
/// The range has a hole, or nothing is mapped there.
pub const KVMA_NOT_MAPPED: i32 = 7;
/// A VMA would be cut below its cut granularity.
pub const KVMA_CUT_REFUSED: i32 = 8;
/// Two VMAs do not meet at this address.
pub const KVMA_NOT_ADJACENT: i32 = 9;
/// The VMAs differ in protection, flags or the owner's data.
pub const KVMA_ATTRIBUTES_DIFFER: i32 = 10;
/// The VMAs are backed by different objects, or their offsets are not contiguous.
pub const KVMA_BACKING_DIFFERS: i32 = 11;
/// The handle is in use: by another thread, or by the call whose hook made this one.
pub const KVMA_BUSY: i32 = 12;
/// NULL where a pointer is needed.
pub const KVMA_NULL_POINTER: i32 = 13;
/// An argument that is none of its `KVMA_…` constants, or does not belong to this handle.
pub const KVMA_BAD_ARGUMENT: i32 = 14;
/// A bug of this library. The handle can only be freed from here on.
pub const KVMA_INTERNAL: i32 = 15;

/// Why a call was not carried out: what the engine says, or what only this boundary knows.
#[derive(Clone, Copy)]
pub(crate) enum Failure {
    Engine(Error),
    Busy,
    Null,
    Argument,
    Internal,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Failure {
    pub(crate) fn status(self) -> kvma_status {
        match self {
            Failure::Busy => KVMA_BUSY,
            Failure::Null => KVMA_NULL_POINTER,
            Failure::Argument => KVMA_BAD_ARGUMENT,
            Failure::Internal => KVMA_INTERNAL,
            Failure::Engine(error) => match error {
                Error::OutOfMemory => KVMA_OUT_OF_MEMORY,
                Error::NoSpace => KVMA_NO_SPACE,
                Error::Unaligned => KVMA_UNALIGNED,
                Error::ZeroLength => KVMA_ZERO_LENGTH,
                Error::OutOfRange => KVMA_OUT_OF_RANGE,
                Error::Overlap => KVMA_OVERLAP,
                Error::NotMapped => KVMA_NOT_MAPPED,
                Error::SplitRefused => KVMA_CUT_REFUSED,
                Error::NotAdjacent => KVMA_NOT_ADJACENT,
                Error::AttributesDiffer => KVMA_ATTRIBUTES_DIFFER,
                Error::BackingDiffers => KVMA_BACKING_DIFFERS,
                Error::Busy => KVMA_BUSY,
                Error::Refused(errno) => -errno.0,
                Error::ForeignNodes => KVMA_BAD_ARGUMENT,
                // The engine may learn new reasons; until they have a code of their own:
                _ => KVMA_BAD_ARGUMENT,
            },
        }
    }
}

/// A short English description. Never NULL; the string is the library's.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_strerror(status: kvma_status) -> *const c_char {
    let text: &CStr = match status {
        KVMA_OK => c"ok",
        KVMA_OUT_OF_MEMORY => c"out of memory",
        KVMA_NO_SPACE => c"no free range fits",
        KVMA_UNALIGNED => c"not page aligned",
        KVMA_ZERO_LENGTH => c"length is zero",
        KVMA_OUT_OF_RANGE => c"range leaves the address space",
        KVMA_OVERLAP => c"range is in use",
        KVMA_NOT_MAPPED => c"range is not mapped",
        KVMA_CUT_REFUSED => c"VMA may not be cut there",
        KVMA_NOT_ADJACENT => c"no two VMAs meet there",
        KVMA_ATTRIBUTES_DIFFER => c"attributes differ",
        KVMA_BACKING_DIFFERS => c"backing differs",
        KVMA_BUSY => c"handle is in use",
        KVMA_NULL_POINTER => c"NULL pointer",
        KVMA_BAD_ARGUMENT => c"bad argument",
        KVMA_INTERNAL => c"internal error",
        i32::MIN..0 => c"refused by a hook",
        _ => c"unknown status",
    };
    text.as_ptr()
}

/// The errno (a positive Linux error number) that the matching POSIX call gives: ENOMEM for a hole
/// under mprotect(2), EEXIST for an overlap, the hook's own where a hook refused. 0 for `KVMA_OK`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_errno(status: kvma_status) -> i32 {
    const ENOMEM: i32 = 12;
    const EFAULT: i32 = 14;
    const EBUSY: i32 = 16;
    const EEXIST: i32 = 17;
    const EINVAL: i32 = 22;
    match status {
        KVMA_OK => 0,
        KVMA_OUT_OF_MEMORY | KVMA_NO_SPACE | KVMA_NOT_MAPPED => ENOMEM,
        KVMA_OVERLAP => EEXIST,
        KVMA_BUSY => EBUSY,
        KVMA_NULL_POINTER => EFAULT,
        i32::MIN..0 => status.saturating_neg(),
        _ => EINVAL,
    }
}
