//! Errors of the map, and the errno that tells user space about them.

use core::fmt;

/// A positive Linux error number (errno(3)).
///
/// ```
/// use kvma::Errno;
///
/// assert_eq!((Errno::ENOMEM.0, Errno::ENOMEM.name()), (12, Some("ENOMEM")));
/// assert_eq!(Errno(200).name(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($value);)*

            /// Returns the symbol, such as `ENOMEM`, where this crate knows it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory.";
    ESRCH = 3, "No such process.";
    EINTR = 4, "Interrupted call.";
    EIO = 5, "Input or output error.";
    EBADF = 9, "Bad file descriptor.";
    EAGAIN = 11, "Resource temporarily unavailable.";
    ENOMEM = 12, "Not enough memory, or not mapped.";
    EACCES = 13, "Permission denied.";
    EFAULT = 14, "Bad address.";
    EBUSY = 16, "Device or resource busy.";
    EEXIST = 17, "The range is in use.";
    ENODEV = 19, "No such device.";
    EINVAL = 22, "Invalid argument.";
    ENOSPC = 28, "No space left.";
    ENOSYS = 38, "Function not implemented.";
    EDEADLK = 35, "Resource deadlock would occur.";
    EOVERFLOW = 75, "Value too large.";
    EOPNOTSUPP = 95, "Operation not supported.";
    EHWPOISON = 133, "Memory page has a hardware error.";
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl core::error::Error for Errno {}

/// Why an operation was refused. Whatever the reason, nothing has changed.
///
/// ```
/// use kvma::{Errno, Error};
///
/// assert_eq!(Error::Overlap.errno(), Errno::EEXIST);
/// assert_eq!(Error::NoSpace.errno(), Errno::ENOMEM);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The node allocator had no node to give.
    OutOfMemory,
    /// No gap of that length and alignment lies in the window.
    NoSpace,
    /// An address, length, alignment or offset is not a multiple of the page size.
    Unaligned,
    /// A length of zero.
    ZeroLength,
    /// The range wraps, or reaches beyond the address space.
    OutOfRange,
    /// The range is (partly) in use.
    Overlap,
    /// The range has a gap, or nothing is mapped there.
    NotMapped,
    /// A VMA would be split against its split granularity.
    SplitRefused,
    /// No two VMAs meet at this address.
    NotAdjacent,
    /// The VMAs differ in protection, flags or user data.
    AttributesDiffer,
    /// The VMAs have different backings, or their offsets are not contiguous.
    BackingDiffers,
    /// A part of the range is [claimed](crate::AddrSpace::claim) by somebody who is still at work.
    Claimed,
    /// A mapping was put over the claim at a fixed address, and has taken it away.
    ClaimLost,
    /// The map has VMAs already.
    NotEmpty,
    /// The two maps do not cover the same range, or their page sizes differ.
    SpaceMismatch,
    /// The two address spaces are one and the same.
    SameSpace,
    /// The update's nodes are from another allocator than the map's.
    ForeignNodes,
    /// The pages would be writable and executable at once.
    WriteXorExec,
    /// The caller holds the space's lock already: it was called from a hook, or from within
    /// [`update`](crate::AddrSpace::update). Only told by locks that know their holder
    /// ([`RawLock::is_held_by_caller`](crate::RawLock::is_held_by_caller)).
    Reentrant,
}

impl Error {
    /// Returns the errno that the matching POSIX call gives (mmap(2), munmap(2), mprotect(2)).
    pub const fn errno(self) -> Errno {
        match self {
            Self::OutOfMemory | Self::NoSpace | Self::NotMapped => Errno::ENOMEM,
            Self::Overlap => Errno::EEXIST,
            Self::Claimed | Self::ClaimLost | Self::NotEmpty => Errno::EBUSY,
            Self::WriteXorExec => Errno::EACCES,
            Self::Reentrant => Errno::EDEADLK,
            Self::Unaligned
            | Self::ZeroLength
            | Self::OutOfRange
            | Self::SplitRefused
            | Self::NotAdjacent
            | Self::AttributesDiffer
            | Self::BackingDiffers
            | Self::SpaceMismatch
            | Self::SameSpace
            | Self::ForeignNodes => Errno::EINVAL,
        }
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        error.errno()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "out of nodes",
            Self::NoSpace => "no gap fits",
            Self::Unaligned => "not page aligned",
            Self::ZeroLength => "length is zero",
            Self::OutOfRange => "range leaves the address space",
            Self::Overlap => "range is in use",
            Self::NotMapped => "range is not mapped",
            Self::SplitRefused => "the VMA may not be split there",
            Self::NotAdjacent => "no two VMAs meet there",
            Self::AttributesDiffer => "attributes differ",
            Self::BackingDiffers => "backing differs",
            Self::Claimed => "range is claimed",
            Self::ClaimLost => "the claim was taken away",
            Self::NotEmpty => "the map is not empty",
            Self::SpaceMismatch => "the maps cover different ranges",
            Self::SameSpace => "both are the same address space",
            Self::ForeignNodes => "nodes of another allocator",
            Self::WriteXorExec => "writable and executable at once",
            Self::Reentrant => "the caller holds the lock already",
        })
    }
}

impl core::error::Error for Error {}

/// An error type for hooks whose own error cannot be made from an [`Error`]: one from another
/// crate, for which the kernel may not implement `From`.
///
/// ```
/// use kvma::{HookError, Hooks};
///
/// struct AxError; // of some other crate
/// struct PageTable;
///
/// impl Hooks<()> for PageTable {
///     type Error = HookError<AxError>;
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookError<E> {
    /// The map refused the operation.
    Map(Error),
    /// A hook refused it.
    Hook(E),
}

impl<E> From<Error> for HookError<E> {
    fn from(error: Error) -> Self {
        Self::Map(error)
    }
}

impl<E: fmt::Display> fmt::Display for HookError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Hook(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for HookError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Map(error) => Some(error),
            Self::Hook(error) => Some(error),
        }
    }
}
