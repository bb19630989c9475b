//! A lock that measures how long it is held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kvma::RawLock;
use kvma::lock::Ticket;

/// A ticket lock that measures how long it is held.
pub struct Timed {
    inner: Ticket,
    longest: AtomicU64,
}

impl Timed {
    /// Returns a free lock.
    pub fn new() -> Self {
        Self { inner: Ticket::new(), longest: AtomicU64::new(0) }
    }

    /// Returns the longest time for which it was held, in nanoseconds.
    pub fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    /// Returns the same as [`longest`](Self::longest), and begins anew.
    pub fn take_longest(&self) -> u64 {
        self.longest.swap(0, Ordering::Relaxed)
    }
}

impl Default for Timed {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the inner lock excludes others.
unsafe impl RawLock for &Timed {
    type Token = Instant;

    fn acquire(&self) -> Instant {
        self.inner.acquire();
        Instant::now()
    }
    fn try_acquire(&self) -> Option<Instant> {
        self.inner.try_acquire().map(|()| Instant::now())
    }
    unsafe fn release(&self, since: Instant) {
        self.longest.fetch_max(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
        // SAFETY: the caller has acquired the lock.
        unsafe { self.inner.release(()) }
    }
}
