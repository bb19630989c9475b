//! A point in the fault handler where one processor can be stopped while the other one changes
//! VMAs: after a page is prepared and before its token is checked. By chance, changes hardly ever
//! fall there.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::mutex::SpinMutex;

use crate::cpus;

/// No page.
const NONE: u64 = u64::MAX;

/// The page whose next fault is stopped.
static ARMED: AtomicU64 = AtomicU64::new(NONE);
static STOPPED: AtomicBool = AtomicBool::new(false);
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Called by the fault handler after it has prepared this page.
pub fn pass(page: u64) {
    if ARMED.compare_exchange(page, NONE, SeqCst, SeqCst).is_ok() {
        STOPPED.store(true, SeqCst);
        cpus::wake();
        cpus::wait(|| RELEASED.load(SeqCst));
    }
}

/// Says if a fault was overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It was.
    Yes,
    /// The access was over before: it has caused no fault, or one that was refused.
    No,
}

/// Runs `access` on the second processor. Its fault on `page` is stopped after the page is
/// prepared; `change` runs on this processor; then the fault goes on. Returns the results of both.
pub fn overtake<A: Send, C>(
    page: u64,
    access: impl Fn() -> A + Sync,
    change: impl FnOnce() -> C,
) -> (A, C, Met) {
    let result = SpinMutex::<Option<A>>::new(None);
    let over = AtomicBool::new(false);
    STOPPED.store(false, SeqCst);
    RELEASED.store(false, SeqCst);
    ARMED.store(page, SeqCst);
    let job = || {
        *result.lock() = Some(access());
        over.store(true, SeqCst);
        cpus::wake();
    };
    let (changed, met) = cpus::beside(&job, || {
        cpus::wait(|| STOPPED.load(SeqCst) || over.load(SeqCst));
        let met = if STOPPED.load(SeqCst) { Met::Yes } else { Met::No };
        ARMED.store(NONE, SeqCst);
        let changed = change();
        RELEASED.store(true, SeqCst);
        cpus::wake();
        (changed, met)
    });
    (result.into_inner().expect("the access is over"), changed, met)
}
