//! Probes: accesses that may be refused. Each is one instruction at a known address, in `arch`.
//!
//! If it is refused, the handler of the signal lets the program go on at the refusal.

use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::SeqCst;

pub use crate::arch::probe::{RET, RET_OFFSET};

#[repr(C)]
struct Outcome {
    value: u64,
    refused: u64,
}

unsafe extern "C" {
    fn probe_load(address: usize) -> Outcome;
    fn probe_store(address: usize, value: u64) -> Outcome;
    fn probe_fetch(address: usize) -> Outcome;
    fn probe_refused();
    fn probe_fetch_refused();
}

/// The address of the fetch that is made.
static FETCHED: AtomicUsize = AtomicUsize::new(0);

/// Loads a word. `None` if that was refused.
///
/// # Safety
///
/// No reference may be to what is there.
pub unsafe fn load(address: usize) -> Option<u64> {
    // SAFETY: a refusal returns here; for the rest, the caller's promise.
    let outcome = unsafe { probe_load(address) };
    (outcome.refused == 0).then_some(outcome.value)
}

/// Stores a word. False if that was refused.
///
/// # Safety
///
/// As of [`load`].
pub unsafe fn store(address: usize, value: u64) -> bool {
    // SAFETY: as in `load`.
    unsafe { probe_store(address, value) }.refused == 0
}

/// Executes the instruction there. False if that was refused. One thread alone may do so.
///
/// # Safety
///
/// It must be a return, if there is something.
pub unsafe fn fetch(address: usize) -> bool {
    FETCHED.store(address, SeqCst);
    // SAFETY: as in `load`.
    let outcome = unsafe { probe_fetch(address) };
    FETCHED.store(0, SeqCst);
    outcome.refused == 0
}

/// Returns where the program goes on if the instruction at this address was refused. `None` if it
/// is none of these.
pub fn after_refusal(instruction: usize) -> Option<usize> {
    if [probe_load as *const (), probe_store as *const ()]
        .iter()
        .any(|first| first.addr() == instruction)
    {
        return Some((probe_refused as *const ()).addr());
    }
    (FETCHED.load(SeqCst) == instruction).then_some((probe_fetch_refused as *const ()).addr())
}
