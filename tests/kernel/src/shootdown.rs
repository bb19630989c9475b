//! Dropping TLB entries of the other processor, by interrupt and acknowledgement.
//!
//! In two halves, as kvma's hooks have it: [`begin`] asks and does not wait, so that it may be
//! called under the lock of an address space; [`Pending::wait`] waits until it is done.
//!
//! A processor that is asked drops everything it has. Requests are numbered, so that it may answer
//! several at once, and whoever asks need not wait for an earlier request first.

use crate::{
    arch::{apic, cpu},
    cpus::{self, CPUS, number, wait},
};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Requests to each processor so far, and how many of them it has done.
static ASKED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static DONE: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// A flush under way.
#[must_use]
#[derive(Clone, Copy)]
pub struct Pending {
    cpu: usize,
    number: u64,
}

/// Asks the other processor to drop its TLB entries. What was written to page tables before counts.
pub fn begin() -> Option<Pending> {
    if !cpus::is_second_up() {
        return None;
    }
    let cpu = CPUS - 1 - number();
    let number = ASKED[cpu].fetch_add(1, SeqCst) + 1;
    apic::call_others();
    Some(Pending { cpu, number })
}

impl Pending {
    /// Waits for the other processor.
    pub fn wait(self) {
        wait(|| DONE[self.cpu].load(SeqCst) >= self.number);
    }
}

/// Does what this processor was asked for. To be called with interrupts off.
pub fn serve() {
    let me = number();
    let asked = ASKED[me].load(SeqCst);
    if asked > DONE[me].load(SeqCst) {
        // Entries removed before the request was made are seen removed after it is read.
        cpu::flush_all();
        DONE[me].store(asked, SeqCst);
        cpus::wake();
    }
}

/// Flushes asked for so far.
pub fn count() -> u64 {
    ASKED.iter().map(|asked| asked.load(SeqCst)).sum()
}
