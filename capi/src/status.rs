//! The answers of calls.

use core::ffi::{CStr, c_char};

use engine::{Errno, Error};

/// The answer of a call: `KVMA_OK`, a positive `KVMA_…` code, or, where a callback of the kernel's
/// refused, the callback's errno as a negative number. A call that does not answer `KVMA_OK` has
/// changed nothing, except where its comment says otherwise.
pub type kvma_status = i32;

/// Success.
pub const KVMA_OK: i32 = 0;
/// The allocator had no memory to give.
pub const KVMA_OUT_OF_MEMORY: i32 = 1;
/// No free range of that length and alignment lies in the window.
pub const KVMA_NO_SPACE: i32 = 2;
/// An address, length, alignment or offset is not a multiple of the page size, or a page size or
/// alignment is not a power of two.
pub const KVMA_UNALIGNED: i32 = 3;
/// The length is zero.
pub const KVMA_ZERO_LENGTH: i32 = 4;
/// The range wraps around, or reaches beyond the address space.
pub const KVMA_OUT_OF_RANGE: i32 = 5;
/// The range is in use, or a part of it is.
pub const KVMA_OVERLAP: i32 = 6;
/// The range has a gap, or nothing is mapped there.
pub const KVMA_NOT_MAPPED: i32 = 7;
/// A VMA would be split below its split granularity.
pub const KVMA_SPLIT_REFUSED: i32 = 8;
/// No two VMAs meet at this address.
pub const KVMA_NOT_ADJACENT: i32 = 9;
/// The VMAs differ in protection, flags, user bits or user data.
pub const KVMA_ATTRIBUTES_DIFFER: i32 = 10;
/// The VMAs are backed by different objects, or their offsets are not contiguous.
pub const KVMA_BACKING_DIFFERS: i32 = 11;
/// A claim holds the range, or a part of it.
pub const KVMA_CLAIMED: i32 = 12;
/// The claim is gone: something was mapped over it at a fixed address.
pub const KVMA_CLAIM_LOST: i32 = 13;
/// The map is not empty, and has to be.
pub const KVMA_NOT_EMPTY: i32 = 14;
/// The two maps cover different ranges, or have pages of different sizes.
pub const KVMA_SPACE_MISMATCH: i32 = 15;
/// The two maps are one and the same.
pub const KVMA_SAME_SPACE: i32 = 16;
/// Memory would be writable and executable, at once or one after the other.
pub const KVMA_WRITE_XOR_EXEC: i32 = 17;
/// The two handles have different allocators.
pub const KVMA_FOREIGN_MEMORY: i32 = 18;
/// The handle is in use, by another thread or by the call whose callback made this one.
pub const KVMA_BUSY: i32 = 19;
/// A pointer is NULL that must not be.
pub const KVMA_NULL_POINTER: i32 = 20;
/// An argument is none of its `KVMA_…` constants.
pub const KVMA_BAD_ARGUMENT: i32 = 21;
/// A callback asked to stop.
pub const KVMA_STOPPED: i32 = 22;
/// This library has a bug. The handle cannot be used or freed from here on.
pub const KVMA_INTERNAL: i32 = 23;
/// Another memory slot lies in the range.
pub const KVMA_SLOT_IN_THE_WAY: i32 = 24;
/// The memory behind the slot is the hypervisor's.
pub const KVMA_HOST_MEMORY: i32 = 25;
/// A slot shows the memory that is to be kept from the guest.
pub const KVMA_SLOT_SHOWS_IT: i32 = 26;
/// The slot's number is taken, or there is none left.
pub const KVMA_SLOT_NUMBER_TAKEN: i32 = 27;
/// There is no slot with this number.
pub const KVMA_NO_SLOT: i32 = 28;
/// The range is not all of a slot, or leaves it.
pub const KVMA_SLOT_NOT_WHOLE: i32 = 29;
/// A part of the range is not in the state that the operation begins with.
pub const KVMA_WRONG_STATE: i32 = 30;
/// Too many slots would show the same memory.
pub const KVMA_TOO_MANY_ALIASES: i32 = 31;

/// Why a call failed: what the engine or the kernel says, or what only this boundary knows.
#[derive(Clone, Copy)]
pub(crate) enum Failure {
    Engine(Error),
    /// A callback of the kernel's refused, or a system call failed.
    Errno(Errno),
    Busy,
    Null,
    Argument,
    Stopped,
    Internal,
    /// A guest refused, for a reason that has a status of its own.
    Guest(kvma_status),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl Failure {
    /// Returns the errno that Linux would answer.
    pub(crate) fn errno(self) -> Errno {
        Errno(kvma_errno(self.status()))
    }

    pub(crate) fn status(self) -> kvma_status {
        match self {
            Self::Engine(error) => status_of(error),
            Self::Errno(errno) => -errno.0,
            Self::Busy => KVMA_BUSY,
            Self::Null => KVMA_NULL_POINTER,
            Self::Argument => KVMA_BAD_ARGUMENT,
            Self::Stopped => KVMA_STOPPED,
            Self::Internal => KVMA_INTERNAL,
            Self::Guest(status) => status,
        }
    }
}

fn status_of(error: Error) -> kvma_status {
    match error {
        Error::OutOfMemory => KVMA_OUT_OF_MEMORY,
        Error::NoSpace => KVMA_NO_SPACE,
        Error::Unaligned => KVMA_UNALIGNED,
        Error::ZeroLength => KVMA_ZERO_LENGTH,
        Error::OutOfRange => KVMA_OUT_OF_RANGE,
        Error::Overlap => KVMA_OVERLAP,
        Error::NotMapped => KVMA_NOT_MAPPED,
        Error::SplitRefused => KVMA_SPLIT_REFUSED,
        Error::NotAdjacent => KVMA_NOT_ADJACENT,
        Error::AttributesDiffer => KVMA_ATTRIBUTES_DIFFER,
        Error::BackingDiffers => KVMA_BACKING_DIFFERS,
        Error::Claimed => KVMA_CLAIMED,
        Error::ClaimLost => KVMA_CLAIM_LOST,
        Error::NotEmpty => KVMA_NOT_EMPTY,
        Error::SpaceMismatch => KVMA_SPACE_MISMATCH,
        Error::SameSpace => KVMA_SAME_SPACE,
        Error::WriteXorExec => KVMA_WRITE_XOR_EXEC,
        Error::ForeignNodes => KVMA_FOREIGN_MEMORY,
        Error::Reentrant => KVMA_BUSY,
        // The engine may learn new reasons; this until they have a code of their own.
        _ => KVMA_BAD_ARGUMENT,
    }
}

/// Describes a status in a few English words. Never NULL; the string is the library's own.
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
        KVMA_SPLIT_REFUSED => c"VMA may not be split there",
        KVMA_NOT_ADJACENT => c"no two VMAs meet there",
        KVMA_ATTRIBUTES_DIFFER => c"attributes differ",
        KVMA_BACKING_DIFFERS => c"backing differs",
        KVMA_CLAIMED => c"range is claimed",
        KVMA_CLAIM_LOST => c"claim has lost its range",
        KVMA_NOT_EMPTY => c"map is not empty",
        KVMA_SPACE_MISMATCH => c"maps differ in range or page size",
        KVMA_SAME_SPACE => c"maps are the same",
        KVMA_WRITE_XOR_EXEC => c"memory would be writable and executable",
        KVMA_FOREIGN_MEMORY => c"handles have different allocators",
        KVMA_BUSY => c"handle is in use",
        KVMA_NULL_POINTER => c"NULL pointer",
        KVMA_BAD_ARGUMENT => c"bad argument",
        KVMA_STOPPED => c"stopped by a callback",
        KVMA_INTERNAL => c"internal error",
        KVMA_SLOT_IN_THE_WAY => c"another memory slot is in the way",
        KVMA_HOST_MEMORY => c"the memory is the hypervisor's",
        KVMA_SLOT_SHOWS_IT => c"a memory slot shows the memory",
        KVMA_SLOT_NUMBER_TAKEN => c"the slot's number is taken",
        KVMA_NO_SLOT => c"no such memory slot",
        KVMA_SLOT_NOT_WHOLE => c"the range is not all of a slot",
        KVMA_WRONG_STATE => c"a part of the slot is in another state",
        KVMA_TOO_MANY_ALIASES => c"too many slots show the same memory",
        i32::MIN..0 => c"refused by the kernel",
        _ => c"unknown status",
    };
    text.as_ptr()
}

/// Returns the errno (a positive Linux error number) that the matching POSIX call gives: `ENOMEM`
/// for a gap under mprotect(2), `EEXIST` for an overlap, the callback's own where one refused. 0
/// for `KVMA_OK`.
#[unsafe(no_mangle)]
pub extern "C" fn kvma_errno(status: kvma_status) -> i32 {
    const ENOENT: i32 = 2;
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const EFAULT: i32 = 14;
    const EBUSY: i32 = 16;
    const EEXIST: i32 = 17;
    const EINVAL: i32 = 22;
    const ENOSPC: i32 = 28;
    const ECANCELED: i32 = 125;
    match status {
        KVMA_OK => 0,
        KVMA_OUT_OF_MEMORY | KVMA_NO_SPACE | KVMA_NOT_MAPPED => ENOMEM,
        KVMA_WRITE_XOR_EXEC | KVMA_HOST_MEMORY => EACCES,
        KVMA_NULL_POINTER => EFAULT,
        KVMA_BUSY | KVMA_CLAIMED | KVMA_CLAIM_LOST | KVMA_NOT_EMPTY | KVMA_SLOT_SHOWS_IT => EBUSY,
        KVMA_OVERLAP | KVMA_SLOT_IN_THE_WAY | KVMA_SLOT_NUMBER_TAKEN => EEXIST,
        KVMA_NO_SLOT => ENOENT,
        KVMA_TOO_MANY_ALIASES => ENOSPC,
        KVMA_STOPPED => ECANCELED,
        i32::MIN..0 => status.saturating_neg(),
        _ => EINVAL,
    }
}
