//! Time, and threads that sleep until a time has come.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use spin::mutex::SpinMutex;

use super::thread::Thread;
use crate::arch::timer;
use crate::cpus;

/// The time of day at which the machine starts, in seconds since 1970: 2025-01-01. So what programs
/// print does not depend on the day.
const START: u64 = 1_735_689_600;

/// A time, in nanoseconds since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

/// Returns the nanoseconds since the machine was started.
pub fn now() -> u64 {
    timer::nanoseconds(timer::now())
}

/// Returns the nanoseconds since 1970.
pub fn time_of_day() -> u64 {
    START * 1_000_000_000 + now()
}

impl Deadline {
    /// Returns the time after so many nanoseconds.
    pub fn after(nanoseconds: u64) -> Self {
        Self(now().saturating_add(nanoseconds))
    }

    /// Returns the time at so many nanoseconds since the start.
    pub fn at(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Returns the time at so many nanoseconds since 1970.
    pub fn at_time_of_day(nanoseconds: u64) -> Self {
        Self(nanoseconds.saturating_sub(START * 1_000_000_000))
    }

    pub fn is_over(self) -> bool {
        now() >= self.0
    }

    /// Returns the nanoseconds that are left.
    pub fn left(self) -> u64 {
        self.0.saturating_sub(now())
    }
}

/// The threads that sleep until a time, by time.
static SLEEPERS: SpinMutex<BTreeMap<(Deadline, u32), Arc<Thread>>> =
    SpinMutex::new(BTreeMap::new());

/// Wakes a thread at a time, unless [`forget`] comes first.
pub fn wake_at(deadline: Deadline, thread: &Arc<Thread>) {
    SLEEPERS.lock().insert((deadline, thread.id), thread.clone());
}

/// Lets the thread sleep when its time comes.
pub fn forget(thread: &Arc<Thread>) {
    SLEEPERS.lock().retain(|_, sleeper| !Arc::ptr_eq(sleeper, thread));
}

/// Wakes the threads whose time has come.
pub fn wake_sleepers() {
    let mut sleepers = SLEEPERS.lock();
    if sleepers.first_key_value().is_none_or(|((deadline, _), _)| !deadline.is_over()) {
        return;
    }
    let later = sleepers.split_off(&(Deadline(now()), u32::MAX));
    let due = core::mem::replace(&mut *sleepers, later);
    drop(sleepers);
    for thread in due.into_values() {
        thread.wake();
    }
}

/// Lets the processor sleep until `until` is true, or a sleeping thread's time comes.
pub fn wait_for(until: impl Fn() -> bool) {
    // The timer interrupts the sleep again and again, and then the check is made again.
    cpus::wait(|| {
        until()
            || SLEEPERS
                .lock()
                .first_key_value()
                .is_some_and(|((deadline, _), _)| deadline.is_over())
    });
}
