//! Atomics, locks, and objects that are dropped after their readers: the one place that names
//! `spin`, `lock_api`, `loom` or `shuttle`.

#![allow(unsafe_code)]

mod lock;
#[cfg(any(feature = "alloc", loom))]
pub(crate) mod pinned;
mod word;

pub(crate) use core::sync::atomic::Ordering;

#[cfg(feature = "lock_api_04")]
pub use self::lock::LockApi04;
#[cfg(feature = "lock_api_05")]
pub use self::lock::LockApi05;
pub(crate) use self::lock::{Guard, Locked};
pub use self::lock::{RawLock, Spin, Ticket, TrackedLock};
#[cfg(any(feature = "alloc", loom))]
pub(crate) use self::word::AtomicPtr;
pub(crate) use self::word::{AtomicUsize, Link, UserCount, Word, fence};

/// Pauses between two tries of something that another processor is about to finish.
#[inline]
pub(crate) fn pause() {
    #[cfg(not(loom))]
    core::hint::spin_loop();
    // loom runs one thread at a time: the other must get its turn.
    #[cfg(all(loom, not(kvma_shuttle)))]
    loom::thread::yield_now();
    #[cfg(kvma_shuttle)]
    shuttle::thread::yield_now();
}

/// Returns a number that no other call returns, on any processor. Not one of loom's atomics: those
/// cannot be in a static, and need not, since what number it is never matters.
#[cfg(target_has_atomic = "64")]
pub(crate) fn unique() -> u64 {
    static LAST: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns a number that no other call returns, on any processor. 32 bits would wrap, so a lock it
/// is.
#[cfg(not(target_has_atomic = "64"))]
pub(crate) fn unique() -> u64 {
    static LAST: spin::mutex::SpinMutex<u64> = spin::mutex::SpinMutex::new(0);
    let mut last = LAST.lock();
    *last += 1;
    *last
}
