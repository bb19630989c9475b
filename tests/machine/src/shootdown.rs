//! Shootdown: the other processor drops its TLB entries, by interrupt and acknowledgement.
//!
//! It has two halves, like kvma's hooks: [`begin`] makes a request and does not wait, so it may be
//! called under the lock of an address space; [`Pending::wait`] waits until the request is done.
//!
//! A processor drops all its entries on request. Requests are numbered, so that it may answer
//! several at once, and a request need not wait for an earlier one.

use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU64, fence};

use crate::cpus::{self, number, wait};
use crate::{CPUS, interrupts};

/// The number of requests to each processor, and how many of them it has done.
static ASKED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static DONE: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// A pending flush of the other processor.
#[must_use]
#[derive(Clone, Copy)]
pub struct Pending {
    cpu: usize,
    number: u64,
}

/// Asks the other processor to drop its TLB entries, after page tables were written, if
/// `is_concerned` says of it that it may hold some.
pub fn begin(is_concerned: impl FnOnce(usize) -> bool) -> Option<Pending> {
    let cpu = CPUS - 1 - number();
    fence(SeqCst);
    if !cpus::is_second_up() || !is_concerned(cpu) {
        return None;
    }
    let number = ASKED[cpu].fetch_add(1, SeqCst) + 1;
    interrupts::call_others();
    Some(Pending { cpu, number })
}

impl Pending {
    /// Waits for the other processor.
    pub fn wait(self) {
        wait(|| DONE[self.cpu].load(SeqCst) >= self.number);
    }
}

/// Does the requests to this processor, by `flush`, which drops every TLB entry. For the handler of
/// the interrupt by the other processor. Interrupts must be off.
pub fn serve(flush: impl FnOnce()) {
    let me = number();
    let asked = ASKED[me].load(SeqCst);
    if asked > DONE[me].load(SeqCst) {
        // Page-table entries that were removed before the request are seen as removed after it.
        flush();
        DONE[me].store(asked, SeqCst);
        cpus::wake();
    }
}

/// Returns the number of requests so far.
pub fn count() -> u64 {
    ASKED.iter().map(|asked| asked.load(SeqCst)).sum()
}
