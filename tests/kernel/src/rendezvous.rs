//! A place in the fault handler where the two processors can be made to meet: between preparing a
//! page and asking whether its VMA is still as it was. By chance, hardly anything happens just
//! there.

use crate::cpus;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use spin::mutex::SpinMutex;

/// No page.
const NONE: u64 = u64::MAX;

/// The page whose next fault stops.
static ARMED: AtomicU64 = AtomicU64::new(NONE);
static STOPPED: AtomicBool = AtomicBool::new(false);
static RELEASED: AtomicBool = AtomicBool::new(false);

/// For the fault handler, when it has prepared this page.
pub fn pass(page: u64) {
    if ARMED.compare_exchange(page, NONE, SeqCst, SeqCst).is_ok() {
        STOPPED.store(true, SeqCst);
        cpus::wake();
        cpus::wait(|| RELEASED.load(SeqCst));
    }
}

/// Whether a fault was overtaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Yes,
    /// The access was over before: it caused no fault, or one that was refused.
    No,
}

/// Has the second processor make `access`, whose fault on `page` stops when its page is prepared;
/// runs `change` meanwhile, all of it; and lets the fault go on. Returns what came of both.
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
