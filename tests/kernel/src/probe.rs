//! Probes: accesses like those of the program, which may be refused.
//!
//! Each is one instruction at a known address, in `arch`'s `probe`. If the page-fault handler
//! cannot serve its fault, it resumes at the refusal instead. A page fault anywhere else is a bug
//! in the kernel.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};

use kvma::linux::SegvCode;

use crate::arch::Access;
pub use crate::arch::probe::RET;
use crate::arch::probe::RET_OFFSET;
use crate::arch::traps::TrapFrame;
use crate::cpus::{CPUS, number};

#[repr(C)]
struct Outcome {
    value: u64,
    refused: u64,
}

unsafe extern "C" {
    fn probe_load(address: u64) -> Outcome;
    fn probe_store(address: u64, value: u64) -> Outcome;
    fn probe_fetch(address: u64) -> Outcome;
    fn probe_refused();
    fn probe_fetch_refused();
}

/// The last word of every frame of the program holds [`RET`], so that any page can be executed.
pub const RET_WORD: usize = crate::frames::WORDS - 1;

/// The probe that a processor is making.
struct Probe {
    address: AtomicU64,
    access: AtomicU8,
    /// The number of its faults that were served.
    served: AtomicU64,
    /// A fault that cannot be served at once is refused.
    impatient: AtomicBool,
    /// The program makes it. Then `stack_pointer` is where its stack ends, or `ANY_STACK`.
    by_program: AtomicBool,
    stack_pointer: AtomicU64,
    /// The code of the signal with which it was refused, or `MADE`.
    refused: AtomicU8,
}
const ANY_STACK: u64 = u64::MAX;
const MADE: u8 = 0;

const NO_PROBE: u8 = u8::MAX;

/// More faults than this of one probe, all of them served, are not caused by changes of VMAs.
const MOST_SERVED: u64 = 1000;

static PROBES: [Probe; CPUS] = [const {
    Probe {
        address: AtomicU64::new(0),
        access: AtomicU8::new(NO_PROBE),
        served: AtomicU64::new(0),
        impatient: AtomicBool::new(false),
        by_program: AtomicBool::new(false),
        stack_pointer: AtomicU64::new(ANY_STACK),
        refused: AtomicU8::new(MADE),
    }
}; CPUS];

/// Makes a probe. `None` if it was refused.
fn make(address: u64, access: Access, probe: impl FnOnce() -> Outcome) -> Option<u64> {
    let mine = &PROBES[number()];
    mine.address.store(address, Relaxed);
    mine.served.store(0, Relaxed);
    mine.refused.store(MADE, Relaxed);
    mine.access.store(access as u8, Relaxed);
    let outcome = probe();
    mine.access.store(NO_PROBE, Relaxed);
    (outcome.refused == 0).then_some(outcome.value)
}

/// Loads as [`load`] does, but is refused if its fault would have to wait for a change of VMAs. For
/// hooks, which run in the middle of one.
pub fn try_load(page: u64) -> Option<u64> {
    let impatient = &PROBES[number()].impatient;
    impatient.store(true, Relaxed);
    let loaded = load(page);
    impatient.store(false, Relaxed);
    loaded
}

/// Loads the word at the beginning of the page. `None` if the load was refused.
pub fn load(page: u64) -> Option<u64> {
    // SAFETY: an address of the lower half, where the kernel has nothing. A fault is served or
    // refused.
    make(page, Access::Load, || unsafe { probe_load(page) })
}

/// Stores to the word at the beginning of the page. False if the store was refused.
pub fn store(page: u64, value: u64) -> bool {
    // SAFETY: as in `load`.
    make(page, Access::Store, || unsafe { probe_store(page, value) }).is_some()
}

/// Makes probes as the program: first writes mark its VMAs, and its stacks grow. Probes of the
/// kernel, which only checks pages, change no VMAs.
pub fn as_program<R>(accesses: impl FnOnce() -> R) -> R {
    let mine = &PROBES[number()];
    mine.by_program.store(true, Relaxed);
    let result = accesses();
    mine.by_program.store(false, Relaxed);
    result
}

/// Stores as a program with this stack pointer. False if the store was refused.
pub fn push(page: u64, value: u64, stack_pointer: u64) -> bool {
    let mine = &PROBES[number()].stack_pointer;
    mine.store(stack_pointer, Relaxed);
    let stored = as_program(|| store(page, value));
    mine.store(ANY_STACK, Relaxed);
    stored
}

/// Returns the code of the signal with which the last probe was refused, or 0 if it was made.
pub fn refusal() -> u8 {
    PROBES[number()].refused.load(Relaxed)
}

/// Executes the RET at the end of the page. False if the fetch was refused.
pub fn fetch(page: u64) -> bool {
    let address = page + 8 * RET_WORD as u64 + RET_OFFSET;
    // SAFETY: as in `load`. There is the RET at the end of every frame, or a trap if the frame was
    // freed, which ends the kernel.
    make(address, Access::Fetch, || unsafe { probe_fetch(address) }).is_some()
}

/// The address of an access that each processor makes through its TLB as it is, or `NOWHERE`.
static RAW: [AtomicU64; CPUS] = [const { AtomicU64::new(NOWHERE) }; CPUS];
const NOWHERE: u64 = u64::MAX;

/// Makes an access through the TLB as it is, and returns true if it was made. If it causes a fault,
/// that is not served. May interrupt another probe.
pub fn is_made(page: u64, access: Access) -> bool {
    let raw = &RAW[number()];
    let address = match access {
        Access::Load | Access::Store => page,
        Access::Fetch => page + 8 * RET_WORD as u64 + RET_OFFSET,
    };
    let outer = raw.swap(address, Relaxed);
    // SAFETY: as in `load` and `fetch`.
    let outcome = unsafe {
        match access {
            Access::Load => probe_load(address),
            Access::Store => probe_store(address, 0),
            Access::Fetch => probe_fetch(address),
        }
    };
    raw.store(outer, Relaxed);
    outcome.refused == 0
}

/// For the page-fault handler: refuses the access if it was to go through the TLB as it is. Returns
/// false if it was another.
pub fn refuse_raw(frame: &mut TrapFrame, address: u64, access: Access) -> bool {
    let is_raw = RAW[number()].load(Relaxed) == address;
    if is_raw {
        frame.instruction = after_refusal(access);
    }
    is_raw
}

/// Returns the address at which a probe continues that was refused.
fn after_refusal(access: Access) -> u64 {
    let resume = if access == Access::Fetch { probe_fetch_refused } else { probe_refused };
    resume as *const () as u64
}

/// For the page-fault handler: checks that a probe makes this access.
///
/// # Panics
///
/// If none does.
pub fn expect_fault(frame: &TrapFrame, address: u64, access: Access) {
    let mine = &PROBES[number()];
    assert!(
        mine.access.load(Relaxed) == access as u8 && mine.address.load(Relaxed) == address,
        "{access:?} of {address:#x} by the kernel itself, at {:#x}",
        frame.instruction
    );
}

/// For the page-fault handler: counts a fault of the current probe that was served.
///
/// # Panics
///
/// If the probe faults again and again although its faults are served.
pub fn note_served() {
    let mine = &PROBES[number()];
    let served = mine.served.fetch_add(1, Relaxed);
    assert!(
        served < MOST_SERVED,
        "access of {:#x} faults although it is served again and again",
        mine.address.load(Relaxed)
    );
}

/// For the page-fault handler: returns true if the current probe may be repeated until it can be
/// served.
pub fn is_patient() -> bool {
    !PROBES[number()].impatient.load(Relaxed)
}

/// For the page-fault handler: returns true if the [program](as_program) makes the current probe.
pub fn is_by_program() -> bool {
    PROBES[number()].by_program.load(Relaxed)
}

/// For the page-fault handler: returns the program's stack pointer, if it matters.
pub fn stack_pointer() -> Option<u64> {
    Some(PROBES[number()].stack_pointer.load(Relaxed)).filter(|&pointer| pointer != ANY_STACK)
}

/// For the page-fault handler: makes the current probe return a refusal with this code.
pub fn refuse(frame: &mut TrapFrame, access: Access, code: SegvCode) {
    PROBES[number()].refused.store(code as u8, Relaxed);
    frame.instruction = after_refusal(access);
}
