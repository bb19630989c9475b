//! Accesses as the program would make them, which may be refused.
//!
//! Each is one instruction at a known address. When the page-fault handler cannot serve it, it
//! resumes at the refusal instead. A page fault anywhere else is a bug of the kernel.

use crate::{
    arch::traps::{Access, TrapFrame},
    cpus::{CPUS, number},
    frames::FRAME_SIZE,
};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use kvma::linux::SegvCode;

core::arch::global_asm!(
    r#"
    .text
    .global probe_load, probe_store, probe_fetch, probe_refused, probe_fetch_refused
probe_load:                             // rdi: address; result in rax, refusal in rdx
    mov rax, [rdi]
    xor edx, edx
    ret
probe_store:                            // rdi: address, rsi: value
    mov [rdi], rsi
    xor edx, edx
    ret
probe_fetch:                            // rdi: address of a RET
    call rdi
    xor edx, edx
    ret
probe_fetch_refused:                    // the call did push its return address
    add rsp, 8
probe_refused:
    xor eax, eax
    mov edx, 1
    ret
"#
);

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

/// The last byte of every frame of the program is a RET instruction, so that any page can be
/// executed.
pub const RET_WORD: usize = crate::frames::WORDS - 1;
/// What the frame's last word is: zeros, then RET in the byte with the highest address.
pub const RET: u64 = 0xc3 << 56;

/// The probe that a processor makes.
struct InFlight {
    address: AtomicU64,
    access: AtomicU8,
    /// How often its fault was served.
    served: AtomicU64,
    /// Whether it is refused what cannot be served at once.
    impatient: AtomicBool,
    /// Whether the program makes it, and where its stack ends then, if that matters.
    by_program: AtomicBool,
    stack_pointer: AtomicU64,
    /// How it was refused, by the code of its signal.
    refused: AtomicU8,
}
const ANY_STACK: u64 = u64::MAX;
const MADE: u8 = 0;

const NO_PROBE: u8 = u8::MAX;

/// More faults that are served and come back no honest change of VMAs makes.
const MOST_SERVED: u64 = 1000;

static IN_FLIGHT: [InFlight; CPUS] = [const {
    InFlight {
        address: AtomicU64::new(0),
        access: AtomicU8::new(NO_PROBE),
        served: AtomicU64::new(0),
        impatient: AtomicBool::new(false),
        by_program: AtomicBool::new(false),
        stack_pointer: AtomicU64::new(ANY_STACK),
        refused: AtomicU8::new(MADE),
    }
}; CPUS];

fn in_flight(address: u64, access: Access, probe: impl FnOnce() -> Outcome) -> Option<u64> {
    let mine = &IN_FLIGHT[number()];
    mine.address.store(address, Relaxed);
    mine.served.store(0, Relaxed);
    mine.refused.store(MADE, Relaxed);
    mine.access.store(access as u8, Relaxed);
    let outcome = probe();
    mine.access.store(NO_PROBE, Relaxed);
    (outcome.refused == 0).then_some(outcome.value)
}

/// As [`load`], but refused where the fault handler would have to wait for a change of VMAs: for
/// hooks, which are in the middle of one.
pub fn glimpse(page: u64) -> Option<u64> {
    let impatient = &IN_FLIGHT[number()].impatient;
    impatient.store(true, Relaxed);
    let loaded = load(page);
    impatient.store(false, Relaxed);
    loaded
}

/// The word at the beginning of the page, or `None` if the load was refused.
pub fn load(page: u64) -> Option<u64> {
    // SAFETY: an address of the lower half, where nothing of the kernel lies; a fault is served or
    // refused.
    in_flight(page, Access::Load, || unsafe { probe_load(page) })
}

/// Writes the word at the beginning of the page; `false` if the store was refused.
pub fn store(page: u64, value: u64) -> bool {
    // SAFETY: as in `load`.
    in_flight(page, Access::Store, || unsafe { probe_store(page, value) }).is_some()
}

/// Makes accesses as the program: its first writes are noted, and its stacks grow. Those of the
/// kernel, which looks what there is, change no VMAs.
pub fn as_program<R>(accesses: impl FnOnce() -> R) -> R {
    let mine = &IN_FLIGHT[number()];
    mine.by_program.store(true, Relaxed);
    let result = accesses();
    mine.by_program.store(false, Relaxed);
    result
}

/// As [`store`], by a program whose stack pointer is `stack_pointer`.
pub fn push(page: u64, value: u64, stack_pointer: u64) -> bool {
    let mine = &IN_FLIGHT[number()].stack_pointer;
    mine.store(stack_pointer, Relaxed);
    let stored = as_program(|| store(page, value));
    mine.store(ANY_STACK, Relaxed);
    stored
}

/// How the last access was refused: the code of its signal. 0 if it was made.
pub fn refusal() -> u8 {
    IN_FLIGHT[number()].refused.load(Relaxed)
}

/// Executes the last byte of the page; `false` if the fetch was refused.
pub fn fetch(page: u64) -> bool {
    let address = page + FRAME_SIZE - 1;
    // SAFETY: as in `load`; what is executed is the RET in the frame's last byte, and INT3 if the
    // frame is a freed one, which ends the kernel.
    in_flight(address, Access::Fetch, || unsafe { probe_fetch(address) }).is_some()
}

/// For the page-fault handler: makes sure that a probe makes this access.
///
/// # Panics
///
/// If none does.
pub fn expect_fault(frame: &TrapFrame, address: u64, access: Access) {
    let mine = &IN_FLIGHT[number()];
    assert!(
        mine.access.load(Relaxed) == access as u8 && mine.address.load(Relaxed) == address,
        "{access:?} of {address:#x} by the kernel itself, at {:#x}",
        frame.instruction
    );
}

/// For the page-fault handler: counts a fault that was served against the probe in pending_flush.
///
/// # Panics
///
/// If it faults again and again though it is served.
pub fn note_served() {
    let mine = &IN_FLIGHT[number()];
    let served = mine.served.fetch_add(1, Relaxed);
    assert!(
        served < MOST_SERVED,
        "access of {:#x} faults although it is served again and again",
        mine.address.load(Relaxed)
    );
}

/// For the page-fault handler: whether the probe in pending_flush may be made again and again until
/// it can be served.
pub fn is_patient() -> bool {
    !IN_FLIGHT[number()].impatient.load(Relaxed)
}

/// For the page-fault handler: whether the [program](as_program) makes the probe in pending_flush.
pub fn is_by_program() -> bool {
    IN_FLIGHT[number()].by_program.load(Relaxed)
}

/// For the page-fault handler: where the program's stack ends, if that matters.
pub fn stack_pointer() -> Option<u64> {
    Some(IN_FLIGHT[number()].stack_pointer.load(Relaxed)).filter(|&pointer| pointer != ANY_STACK)
}

/// For the page-fault handler: lets the probe in pending_flush return a refusal, with this code.
pub fn refuse(frame: &mut TrapFrame, access: Access, code: SegvCode) {
    IN_FLIGHT[number()].refused.store(code as u8, Relaxed);
    let resume = if access == Access::Fetch { probe_fetch_refused } else { probe_refused };
    frame.instruction = resume as *const () as u64;
}
