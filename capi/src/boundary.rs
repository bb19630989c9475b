//! The way into every exported function and out of it: panics are caught, NULL is answered, results
//! are written.

use core::mem::MaybeUninit;
use core::ptr::NonNull;

use crate::alloc::Memory;
use crate::status::{Failure, KVMA_OK, kvma_status};

/// Runs `body` and answers with its status; a panic in it is `KVMA_INTERNAL`.
pub(crate) fn ffi_call(body: impl FnOnce() -> Result<(), Failure>) -> kvma_status {
    ffi_call_or(Err(Failure::Internal), body).err().map_or(KVMA_OK, Failure::status)
}

/// Runs `body`; a panic in it is answered with `otherwise`.
///
/// Everything that a panic may leave half changed lies in a [`BusyCell`](crate::cell::BusyCell),
/// which is broken from then on. That is why the closure may pass for unwind safe.
#[cfg(feature = "std")]
pub(crate) fn ffi_call_or<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Runs `body`. Without std a panic does not come back here: it ends in `kvma_panic`.
#[cfg(not(feature = "std"))]
pub(crate) fn ffi_call_or<R>(_otherwise: R, body: impl FnOnce() -> R) -> R {
    body()
}

/// Turns an argument that must not be NULL into what it points to.
///
/// # Errors
///
/// `Null`.
pub(crate) fn required<T>(argument: Option<T>) -> Result<T, Failure> {
    argument.ok_or(Failure::Null)
}

/// Turns the pointer to a handle that a call may change into a reference. What a handle holds is
/// behind a cell, so any number of these may exist.
///
/// # Errors
///
/// `Null`.
///
/// # Safety
///
/// `handle` is NULL or a handle that stays valid as long as the reference is used. It does for the
/// length of a call, as the crate docs have it: C does not free it meanwhile from another thread,
/// and a callback that tries is told `KVMA_BUSY`.
pub(crate) unsafe fn handle<'a, T>(handle: *mut T) -> Result<&'a T, Failure> {
    // SAFETY: not NULL is valid, by this function's contract.
    required(unsafe { handle.as_ref() })
}

/// Writes a result where the caller wants it; NULL means that it is not wanted.
pub(crate) fn write_out<T>(out: Option<&mut MaybeUninit<T>>, value: T) {
    if let Some(out) = out {
        out.write(value);
    }
}

/// Prepares an out-parameter for a new handle, which is NULL unless the call succeeds.
///
/// # Errors
///
/// `Null`.
pub(crate) fn out_handle<T>(out: Option<&mut MaybeUninit<*mut T>>) -> Result<&mut *mut T, Failure> {
    required(out).map(|out| out.write(core::ptr::null_mut()))
}

/// Frees a handle: `close` takes out what it holds and drops it, then its memory goes back. NULL is
/// fine.
///
/// # Errors
///
/// The answer of `close`, if the handle is not freed.
///
/// # Safety
///
/// `handle` is NULL, or a live handle that came from a [`HandleSlot`](crate::alloc::HandleSlot) of
/// `memory`. `close` succeeds once for a handle, and leaves nothing that has to be dropped.
pub(crate) unsafe fn free_handle<T>(
    handle: *mut T,
    memory: impl FnOnce(&T) -> Memory,
    close: impl FnOnce(&T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Some(pointer) = NonNull::new(handle) else { return Ok(()) };
    // SAFETY: it is live, by this function's contract, and stays so until the end: callbacks of
    // `close` that want to free it fail, since `close` succeeds once.
    let handle = unsafe { pointer.as_ref() };
    let memory = memory(handle);
    close(handle)?;
    // SAFETY: a slot's memory came from `allocate`; what was in it has been closed, here and by
    // nobody else, so it goes back once.
    unsafe { memory.deallocate(pointer) };
    Ok(())
}
