//! Helpers of tests with several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kvma::RawLock;

use crate::random::env_number;

/// A lock whose waiters let others run.
///
/// Threads of a process may be stopped while they hold a lock, or while they are next in the line
/// for one, which the default ticket lock would wait out.
#[derive(Debug, Default)]
pub struct Yielding(AtomicBool);

impl Yielding {
    /// Returns whether somebody holds the lock.
    pub fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// SAFETY: only one `swap` finds `false` until `release`.
unsafe impl RawLock for Yielding {
    type Token = ();

    fn acquire(&self) {
        while self.try_acquire().is_none() {
            thread::yield_now();
        }
    }

    fn try_acquire(&self) -> Option<()> {
        (!self.0.swap(true, Ordering::Acquire)).then_some(())
    }

    unsafe fn release(&self, (): ()) {
        self.0.store(false, Ordering::Release);
    }
}

// SAFETY: it is the same lock.
unsafe impl RawLock for &'static Yielding {
    type Token = ();

    fn acquire(&self) {
        (**self).acquire()
    }

    fn try_acquire(&self) -> Option<()> {
        (**self).try_acquire()
    }

    unsafe fn release(&self, (): ()) {
        // SAFETY: the caller holds this lock.
        unsafe { (**self).release(()) }
    }
}

/// A mutex whose waiters let others run. ThreadSanitizer sees what it orders, which it does not of
/// the standard library's where that was built without it.
pub type YieldingMutex<T> = spin::mutex::SpinMutex<T, YieldNow>;

/// A lock for readers or a writer, of the same kind.
pub type YieldingRwLock<T> = spin::rwlock::RwLock<T, YieldNow>;

/// The guard of a reader of a [`YieldingRwLock`].
pub type YieldingReadGuard<'a, T> = spin::rwlock::RwLockReadGuard<'a, T, YieldNow>;

/// Has the waiters of a [`YieldingMutex`] let others run.
pub struct YieldNow;

impl spin::RelaxStrategy for YieldNow {
    fn relax() {
        thread::yield_now();
    }
}

/// Sets a flag when dropped, which ends the other threads of a test also when this one panics.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Keeps tests that need the processors for themselves from running side by side in one process.
pub fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    // A test that has panicked leaves nothing behind that matters to the next one.
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how long a stress test runs: a second, or `KVMA_STRESS_SECONDS`.
pub fn stress_duration() -> Duration {
    Duration::from_secs_f64(env_number("KVMA_STRESS_SECONDS").unwrap_or(1.0))
}
