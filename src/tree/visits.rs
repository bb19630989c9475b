//! The number of nodes that searches look at, for tests: unlike time, it is the same each time.

extern crate std;

use core::cell::Cell;

std::thread_local! {
    static VISITS: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn visit() {
    VISITS.set(VISITS.get() + 1);
}

/// Returns the number of nodes that this thread's searches look at while `run` runs, and what it
/// returns.
pub(crate) fn count<R>(run: impl FnOnce() -> R) -> (usize, R) {
    let before = VISITS.get();
    let result = run();
    (VISITS.get() - before, result)
}
