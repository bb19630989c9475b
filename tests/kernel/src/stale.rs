//! Stale TLB entries: when a flush has ended, no processor may have one left.
//!
//! Right then, before any frame is freed, both processors make the accesses to the flushed pages
//! that page tables refuse. These are not served like those of a program: they go through the TLB
//! as it is, and whichever is made is a mistake. The other processor makes them in the handler of
//! an interrupt of their own, since the one that asks for the flush may not have been sent.
//!
//! Where the kernel plays the program, these are its own [probes](probe). Where programs run in
//! user mode, they are made [there](user::probe), without fetches: nothing is known of their code.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::mutex::SpinMutex;

use crate::arch::{Access, cpu, interrupts};
use crate::cpus::{CPUS, number};
use crate::paging::Tables;
use crate::{contents, cpus, fault, probe, user};

/// Accesses that are tried after each flush at most. A TLB may have lost the entries of some pages
/// by itself, so a few would not do.
const MOST: usize = 64;

/// Accesses that were tried, and refused.
pub static TRIED: AtomicU64 = AtomicU64::new(0);

/// True if nothing is tried here, so that programs have to notice what is left.
static LEFT_TO_PROGRAMS: AtomicBool = AtomicBool::new(false);

/// Leaves it to programs to notice what is left.
pub fn leave_to_programs() {
    LEFT_TO_PROGRAMS.store(true, Relaxed);
}

/// Accesses that must be refused.
#[derive(Clone, Copy)]
struct Trial {
    /// The tables that refuse them.
    root: u64,
    accesses: [Option<(u64, Access)>; MOST],
}

/// The trial that each processor is asked to make, the number of requests, and of those done.
static TRIALS: [SpinMutex<Option<Trial>>; CPUS] = [const { SpinMutex::new(None) }; CPUS];
static ASKED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
static DONE: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// Checks that no processor that uses these tables has a stale entry for pages whose flush has
/// ended. The caller holds the page-table lock, and interrupts are on.
///
/// # Panics
///
/// If an access is made that the tables refuse.
pub fn check(tables: &Tables, flushed: &[u64]) {
    if LEFT_TO_PROGRAMS.load(Relaxed) {
        return;
    }
    let trial = Trial::of(tables, flushed);
    if trial.accesses[0].is_none() {
        return;
    }
    trial.make();
    let other = CPUS - 1 - number();
    if cpus::is_second_up() && cpus::uses(other, trial.root) {
        *TRIALS[other].lock() = Some(trial);
        let asked = ASKED[other].fetch_add(1, SeqCst) + 1;
        interrupts::call_others();
        cpus::wait(|| DONE[other].load(SeqCst) >= asked);
    }
}

/// Makes the trial that the other processor has asked for. For the handler of its interrupt, with
/// interrupts off.
pub fn serve_others() {
    let me = number();
    let asked = ASKED[me].load(SeqCst);
    if asked > DONE[me].load(SeqCst) {
        let trial = TRIALS[me].lock().take();
        trial.into_iter().for_each(|trial| trial.make());
        DONE[me].store(asked, SeqCst);
        cpus::wake();
    }
}

impl Trial {
    fn of(tables: &Tables, flushed: &[u64]) -> Self {
        let mut trial = Self { root: tables.root(), accesses: [None; MOST] };
        // A trap of user mode is dear, and an entry that a store goes through lets a load pass:
        // where loads are refused, stores tell nothing more.
        let (kinds, of_a_page, most): (&[_], _, _) = match contents::are_probed() {
            true => (&[Access::Load, Access::Store, Access::Fetch], 3, MOST),
            false => (&[Access::Load, Access::Store], 1, MOST / 2),
        };
        let refused = flushed.iter().flat_map(|&page| {
            let entry = tables.find(page);
            let allows = move |access| entry.is_some_and(|entry| entry.rights().allow(access));
            let refused = kinds.iter().copied().filter(move |&access| !allows(access));
            refused.map(move |access| (page, access)).take(of_a_page)
        });
        for (slot, access) in trial.accesses.iter_mut().zip(refused.take(most)) {
            *slot = Some(access);
        }
        trial
    }

    /// Makes the accesses, if this processor uses the tables. While it serves a page fault it
    /// cannot have another.
    fn make(&self) {
        if cpu::root() != self.root || fault::is_serving() {
            return;
        }
        let is_made = if contents::are_probed() { probe::is_made } else { user::probe::is_made };
        for (page, access) in self.accesses.into_iter().flatten() {
            assert!(
                !is_made(page, access),
                "{access:?} of page {page:#x} was made by a stale TLB entry, after the flush"
            );
            TRIED.fetch_add(1, Relaxed);
        }
    }
}
