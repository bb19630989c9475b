//! Shared by the integration tests of kvma.
//!
//! - [`Log`] writes down what hooks hear, [`Refuse`] refuses one `prepare`, [`LockHolds`] counts
//!   VMAs in each hold of the lock, and [`phases`] calls a closure in each phase of a change.
//! - [`Inode`] is a file and [`TestKernel`] a kernel, for the Linux layer; [`GuardRanges`] knows
//!   where guards are.
//! - [`Yielding`], [`YieldingMutex`] and [`YieldingRwLock`] are locks for more threads than
//!   processors; [`StopOnDrop`] and [`one_at_a_time`] are for tests with threads.
//! - [`run_example`] runs an example as a user does.
//! - [`Random`] makes numbers that a seed repeats; [`env_number`] reads a test's settings.
//!
//! Allocators that fail, hooks that record typed calls and user data that keeps books of itself are
//! in `kvma-model`.

#[cfg(doctest)]
mod guide;

mod examples;
mod guards;
mod hooks;
mod linux;
mod random;
mod threads;

pub use self::examples::run_example;
pub use self::guards::GuardRanges;
pub use self::hooks::{LockHolds, Log, Phase, Phases, Refuse, Refused, phases};
pub use self::linux::{Inode, TestKernel};
pub use self::random::{Random, env_number};
pub use self::threads::{
    StopOnDrop, YieldNow, Yielding, YieldingMutex, YieldingReadGuard, YieldingRwLock,
    one_at_a_time, stress_duration,
};
