//! Tables of functions, which begin with their size, so that later versions may have more of them.
//!
//! A program that was compiled with an older header hands over a shorter table: what it lacks is
//! NULL. One that was compiled with a newer header hands over a longer one: that is fine as long as
//! what this library does not know is zero. Linux' clone3(2) and openat2(2) have it the same way.

use core::mem::MaybeUninit;
use core::ptr;

use crate::status::Failure;

/// A table of functions.
///
/// # Safety
///
/// The type is `repr(C)`, its first field is a `usize` that holds the size in bytes, and it is
/// valid if all of its bytes are zero.
pub(crate) unsafe trait Table: Copy {
    /// The size of the table in the first version that had it.
    const FIRST: usize;

    /// Returns a table whose bytes are all zero.
    fn zero() -> Self {
        // SAFETY: valid, by the contract of the trait.
        unsafe { MaybeUninit::zeroed().assume_init() }
    }
}

/// Copies a table; `None` for NULL.
///
/// # Errors
///
/// `Argument` if it is shorter than it ever was, or if what this library does not know of is not
/// zero.
///
/// # Safety
///
/// `table` is NULL, or points to as many bytes as it says, at least to its size.
pub(crate) unsafe fn copy<T: Table>(table: *const T) -> Result<Option<T>, Failure> {
    if table.is_null() {
        return Ok(None);
    }
    // SAFETY: the size comes first, by the contract of `Table`, and is there, by this function's.
    let size = unsafe { table.cast::<usize>().read() };
    let (known, bytes) = (size_of::<T>(), table.cast::<u8>());
    if size < T::FIRST {
        return Err(Failure::Argument);
    }
    for at in known..size {
        // SAFETY: within the size, so it is there by this function's contract.
        if unsafe { bytes.add(at).read() } != 0 {
            return Err(Failure::Argument);
        }
    }
    let mut copy = T::zero();
    // SAFETY: both have this many bytes. They do not overlap, since `copy` is new; and what is
    // copied is a valid prefix, which the zeros behind it make a whole.
    unsafe { ptr::copy_nonoverlapping(bytes, (&raw mut copy).cast::<u8>(), size.min(known)) };
    Ok(Some(copy))
}
