//! The cell behind a handle: a value that answers `KVMA_BUSY` where Rust's references would
//! conflict.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicI32, Ordering};

use crate::status::Failure;

/// A value that any number of calls may read at once, or one may change, or one may close for good.
/// A call that comes in between fails with `Busy`.
///
/// This turns a hook that calls back, a missing lock in the caller, or a callback that frees the
/// handle a second time into a status, instead of two `&mut` to one value.
pub(crate) struct BusyCell<T> {
    /// The number of readers at work, or one of the constants below.
    state: AtomicI32,
    value: UnsafeCell<ManuallyDrop<T>>,
}

const IDLE: i32 = 0;
const WRITING: i32 = -1;
/// A panic has left the value half changed. It is neither used nor dropped any more: it leaks.
const BROKEN: i32 = -2;
/// The value has been moved out.
const CLOSED: i32 = -3;

impl<T> BusyCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { state: AtomicI32::new(IDLE), value: UnsafeCell::new(ManuallyDrop::new(value)) }
    }

    /// Runs `read` on the value, beside other readers.
    ///
    /// # Errors
    ///
    /// `Busy` while a call changes the value or after it was closed, `Internal` if a panic has
    /// broken it, and what `read` answers.
    pub(crate) fn read<R>(
        &self,
        read: impl FnOnce(&T) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let enter = |state: i32| (IDLE..i32::MAX).contains(&state).then(|| state + 1);
        self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).map_err(refusal)?;
        let _reading = Reading(&self.state);
        // SAFETY: `write` and `close` want the state to be `IDLE`, and it counts this reader until
        // `_reading` is dropped; so nobody changes the value or moves it away meanwhile.
        read(unsafe { &*self.value.get() })
    }

    /// Runs `look` on the value beside other readers, without being counted as one.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    ///
    /// # Safety
    ///
    /// Until `look` returns, nobody changes or closes the value: `look` calls nothing of the
    /// caller's that could, and no other thread does.
    pub(crate) unsafe fn peek<R>(
        &self,
        look: impl FnOnce(&T) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let state = self.state.load(Ordering::Acquire);
        if state < IDLE {
            return Err(refusal(state));
        }
        // SAFETY: nobody is changing the value, or the state were `WRITING`, and it has not been
        // closed; nobody begins to, by this function's contract.
        look(unsafe { &*self.value.get() })
    }

    /// Runs `change` on the value, alone.
    ///
    /// # Errors
    ///
    /// `Busy` while another call uses the value or after it was closed, `Internal` if a panic has
    /// broken it, and what `change` answers.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut T) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let writing = self.begin_write()?;
        // SAFETY: every other access wants a state that is not `WRITING`, which this call alone
        // set, and which stays as long as `writing`; so the reference is the only one.
        let result = change(unsafe { &mut *self.value.get() });
        writing.end(IDLE);
        result
    }

    /// Runs `change` on the value, alone, with the work that `begin` makes of it, and then drops
    /// the work, while others may read the value but neither change nor close it. The work is
    /// large: it stays where it is.
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write); where it is not `change` that fails, nothing has run.
    pub(crate) fn write_then<W, R>(
        &self,
        begin: impl FnOnce(&T) -> W,
        change: impl FnOnce(&mut T, &mut W) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let writing = self.begin_write()?;
        // SAFETY: as in `write`; the references end before `writing` does.
        let mut work = begin(unsafe { &*self.value.get() });
        // SAFETY: as above; the work borrows nothing of the value, whose type it cannot name.
        let result = change(unsafe { &mut *self.value.get() }, &mut work);
        // One reader: this call.
        writing.end(IDLE + 1);
        let _reading = Reading(&self.state);
        drop(work);
        result
    }

    fn begin_write(&self) -> Result<Writing<'_>, Failure> {
        self.acquire(WRITING)?;
        Ok(Writing(&self.state))
    }

    /// Moves the value out for good: whoever comes from now on is told `Busy`, also while the value
    /// is dropped.
    ///
    /// # Errors
    ///
    /// `Busy` while a call uses the value or after it was closed, `Internal` if a panic has broken
    /// it.
    pub(crate) fn close(&self) -> Result<T, Failure> {
        self.acquire(CLOSED)?;
        // SAFETY: the state was `IDLE`, so that nobody has a reference to the value, and is
        // `CLOSED` for ever; every other access, `drop` included, asks for another state first. So
        // the value is moved once and not looked at again.
        Ok(unsafe { ManuallyDrop::take(&mut *self.value.get()) })
    }

    /// Goes from `IDLE` to `state`.
    fn acquire(&self, state: i32) -> Result<(), Failure> {
        let acquired =
            self.state.compare_exchange(IDLE, state, Ordering::Acquire, Ordering::Relaxed);
        acquired.map(drop).map_err(refusal)
    }
}

/// A reader at work, who is counted until this is dropped.
struct Reading<'a>(&'a AtomicI32);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// A writer at work. If it does not come to its end, the value is broken.
struct Writing<'a>(&'a AtomicI32);

impl Writing<'_> {
    fn end(self, state: i32) {
        ManuallyDrop::new(self).0.store(state, Ordering::Release);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.store(BROKEN, Ordering::Release);
    }
}

impl<T> Drop for BusyCell<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == IDLE {
            // SAFETY: it has not been moved out, or the state were `CLOSED`, and `&mut self` says
            // that nobody else has a reference; the cell is not used after its own drop.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) }
        }
    }
}

/// Why a state other than `IDLE` keeps a call out.
fn refusal(state: i32) -> Failure {
    if state == BROKEN { Failure::Internal } else { Failure::Busy }
}
