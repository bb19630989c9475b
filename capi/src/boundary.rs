//! What every exported function goes through: panics are caught, handles are used by one call at a
//! time.

use crate::status::{Fail, KVMA_OK, kvma_status};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicI32, Ordering};

/// Runs `body`; a panic in it is `KVMA_INTERNAL`.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Fail>) -> kvma_status {
    call_or(Err(Fail::Internal), body).err().map_or(KVMA_OK, Fail::status)
}

/// Runs `body`; a panic in it is answered with `otherwise`.
///
/// Unwind safety: what `body` may leave half-done is inside a [`Shared`], which is marked as broken
/// by the guard that the panic drops.
#[cfg(feature = "std")]
pub(crate) fn call_or<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Runs `body`. Without std, a panic does not come back here.
#[cfg(not(feature = "std"))]
pub(crate) fn call_or<R>(_otherwise: R, body: impl FnOnce() -> R) -> R {
    body()
}

/// Whether a panic is under way.
fn panicking() -> bool {
    #[cfg(feature = "std")]
    return std::thread::panicking();
    #[cfg(not(feature = "std"))]
    return false;
}

/// A value behind a handle. Any number of calls may look at it at once, one may change it; whoever
/// comes in between is told `Busy`. That makes a hook that calls back, or a missing lock in the
/// caller, an answer instead of two `&mut` to the same thing.
pub(crate) struct Shared<T> {
    /// Readers at work; `WRITING`; or `BROKEN`.
    state: AtomicI32,
    value: UnsafeCell<T>,
}

const WRITING: i32 = -1;
const BROKEN: i32 = -2;

impl<T> Shared<T> {
    pub(crate) const fn new(value: T) -> Shared<T> {
        Shared { state: AtomicI32::new(0), value: UnsafeCell::new(value) }
    }

    /// Looks at the value.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&T) -> Result<R, Fail>) -> Result<R, Fail> {
        struct Reading<'a>(&'a AtomicI32);
        impl Drop for Reading<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Release);
            }
        }
        let enter = |state: i32| (0..i32::MAX).contains(&state).then(|| state + 1);
        if let Err(state) = self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter) {
            return Err(if state == BROKEN { Fail::Internal } else { Fail::Busy });
        }
        let _reading = Reading(&self.state);
        // SAFETY: the count is above zero until the guard goes, so nobody writes.
        look(unsafe { &*self.value.get() })
    }

    /// Changes the value.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, Fail>,
    ) -> Result<R, Fail> {
        struct Writing<'a>(&'a AtomicI32);
        impl Drop for Writing<'_> {
            fn drop(&mut self) {
                let state = if panicking() { BROKEN } else { 0 };
                self.0.store(state, Ordering::Release);
            }
        }
        if let Err(state) =
            self.state.compare_exchange(0, WRITING, Ordering::Acquire, Ordering::Relaxed)
        {
            return Err(if state == BROKEN { Fail::Internal } else { Fail::Busy });
        }
        let _writing = Writing(&self.state);
        // SAFETY: the state is ours until the guard goes; everybody else asks it first.
        change(unsafe { &mut *self.value.get() })
    }

    /// Whether the value may be taken apart: `Busy` if somebody uses it, `Internal` if a panic has
    /// left it half-done. That is not walked again: it leaks.
    pub(crate) fn check_idle(&self) -> Result<(), Fail> {
        match self.state.load(Ordering::Acquire) {
            0 => Ok(()),
            BROKEN => Err(Fail::Internal),
            _ => Err(Fail::Busy),
        }
    }

    /// The value, of which nobody else knows.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// A pointer that the caller must not leave NULL.
///
/// # Safety
///
/// NULL, or valid for `'a`.
pub(crate) unsafe fn given<'a, T>(pointer: *const T) -> Result<&'a T, Fail> {
    // SAFETY: the caller's.
    unsafe { pointer.as_ref() }.ok_or(Fail::Null)
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
