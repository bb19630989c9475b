//! What every exported function goes through: panics are caught, pointers that
//! may be NULL are looked at first.

use crate::status::{Failure, KVMA_OK, kvma_status};

/// Runs `body`; a panic in it is `KVMA_INTERNAL`.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Failure>) -> kvma_status {
    call_or(Err(Failure::Internal), body).err().map_or(KVMA_OK, Failure::status)
}

/// Runs `body`; a panic in it is answered with `otherwise`.
///
/// Unwind safety: what `body` may leave half-done is inside a [`BusyCell`](crate::cell::BusyCell), which is broken
/// from then on.
#[cfg(feature = "std")]
pub(crate) fn call_or<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Runs `body`. Without std, a panic does not come back here.
#[cfg(not(feature = "std"))]
pub(crate) fn call_or<R>(_otherwise: R, body: impl FnOnce() -> R) -> R {
    body()
}

/// A pointer that the caller must not leave NULL.
///
/// # Safety
///
/// NULL, or valid for `'a`.
pub(crate) unsafe fn given<'a, T>(pointer: *const T) -> Result<&'a T, Failure> {
    // SAFETY: the caller's.
    unsafe { pointer.as_ref() }.ok_or(Failure::Null)
}

/// Writes a result where the caller wants it; NULL means that it is not wanted.
///
/// # Safety
///
/// NULL, or valid for a write.
pub(crate) unsafe fn tell<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: the caller's.
        unsafe { out.write(value) }
    }
}
