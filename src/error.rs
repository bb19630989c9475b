//! What can go wrong, and the errno that says so to user space.

use core::fmt;

/// A positive Linux error number (errno(3)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($value);)*

            /// The symbol, such as `ENOMEM`, where this crate knows it.
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
    ENOSYS = 38, "Function not implemented.";
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The node allocator had no node to give.
    OutOfMemory,
    /// No free range of that length and alignment lies in the window.
    NoSpace,
    /// An address, length, alignment or offset is not a multiple of the page size.
    Unaligned,
    /// A length of zero.
    ZeroLength,
    /// The range wraps, or reaches beyond the address space.
    OutOfRange,
    /// The range is (partly) in use.
    Overlap,
    /// The range has a hole, or nothing is mapped there.
    NotMapped,
    /// A VMA would be cut below its cut granularity.
    SplitRefused,
    /// Two VMAs do not meet at this address.
    NotAdjacent,
    /// The VMAs differ in protection, flags or the owner's data.
    AttributesDiffer,
    /// The VMAs are backed by different objects, or their offsets are not contiguous.
    BackingDiffers,
    /// The space is not empty, or not what the operation needs.
    Busy,
    /// The update's nodes are from another allocator than the map's.
    ForeignNodes,
    /// A hook refused, with this errno.
    Refused(Errno),
}

impl Error {
    /// The errno that the matching POSIX call gives (mmap(2), munmap(2), mprotect(2)).
    pub const fn errno(self) -> Errno {
        match self {
            Error::OutOfMemory | Error::NoSpace | Error::NotMapped => Errno::ENOMEM,
            Error::Overlap => Errno::EEXIST,
            Error::Busy => Errno::EBUSY,
            Error::Refused(errno) => errno,
            Error::Unaligned
            | Error::ZeroLength
            | Error::OutOfRange
            | Error::SplitRefused
            | Error::NotAdjacent
            | Error::AttributesDiffer
            | Error::BackingDiffers
            | Error::ForeignNodes => Errno::EINVAL,
        }
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Errno {
        error.errno()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::OutOfMemory => "out of nodes",
            Error::NoSpace => "no free range fits",
            Error::Unaligned => "not page aligned",
            Error::ZeroLength => "length is zero",
            Error::OutOfRange => "range leaves the address space",
            Error::Overlap => "range is in use",
            Error::NotMapped => "range is not mapped",
            Error::SplitRefused => "VMA may not be cut there",
            Error::NotAdjacent => "no two VMAs meet there",
            Error::AttributesDiffer => "attributes differ",
            Error::BackingDiffers => "backing differs",
            Error::Busy => "busy",
            Error::ForeignNodes => "nodes of another allocator",
            Error::Refused(errno) => return write!(f, "refused by the owner: {errno}"),
        };
        f.write_str(text)
    }
}

impl core::error::Error for Error {}
