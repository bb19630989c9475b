//! Two processors: waiting for each other, and giving the second one work.

use crate::{
    arch::{apic, cpu, second, traps},
    shootdown,
};
use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
};
use spin::{Once, mutex::SpinMutex};
use x86_64::instructions::interrupts;

pub use cpu::{CPUS, number};

/// The first processor runs the kernel; the second one does what it is given.
pub const SECOND: usize = 1;

/// Looks before a processor that waits goes to sleep. If the machine that emulates ours has fewer
/// processors than we have, the one that waits is in the way of the one that it waits for.
const LOOKS: usize = 300;

static ASLEEP: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];
static UP: AtomicBool = AtomicBool::new(false);
/// Top page table of the second processor.
static ROOT: Once<u64> = Once::new();

/// Work for the second processor.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn() + Sync));

// SAFETY: the pointer is followed by the second processor alone, while `beside` keeps what it
// points to, which is `Sync`.
unsafe impl Send for Job {}

static JOB: SpinMutex<Option<Job>> = SpinMutex::new(None);
/// Jobs given so far, and jobs done.
static GIVEN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// Starts the second processor, which uses the page tables below `root` from now on.
///
/// # Safety
///
/// `root` must map the image, the direct map and all stacks for as long as the kernel runs.
pub unsafe fn start_second(root: u64) {
    ROOT.call_once(|| root);
    // SAFETY: `second_main` needs the root and nothing more. `Once` sees to it that nobody else
    // gives another one.
    unsafe { second::start(|| UP.load(SeqCst)) };
}

/// Whether there is another processor that may hold TLB entries.
pub fn is_second_up() -> bool {
    UP.load(SeqCst)
}

/// Entered once, from `arch::entry`.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    traps::init(SECOND);
    let root = *ROOT.wait();
    // SAFETY: promised to `start_second`.
    unsafe { cpu::set_root(root) };
    UP.store(true, SeqCst);
    loop {
        wait(|| GIVEN.load(SeqCst) != DONE.load(SeqCst));
        let job = JOB.lock().take().expect("a job was given");
        // SAFETY: whoever gave the job keeps it until it is done.
        unsafe { (*job.0)() };
        DONE.fetch_add(1, SeqCst);
        wake();
    }
}

/// Has the second processor do `job` while this one runs `body`. Returns when both are done.
///
/// # Panics
///
/// If the second processor has a job already.
pub fn beside<R>(job: &(dyn Fn() + Sync), body: impl FnOnce() -> R) -> R {
    assert!(number() != SECOND, "the second processor has nobody to give work to");
    // SAFETY: only the lifetime changes. The job is done before this function returns, and nothing
    // unwinds here.
    let job: &'static (dyn Fn() + Sync) = unsafe { core::mem::transmute(job) };
    assert!(JOB.lock().replace(Job(job)).is_none(), "the second processor is busy");
    let number = GIVEN.fetch_add(1, SeqCst) + 1;
    wake();
    let result = body();
    wait(|| DONE.load(SeqCst) == number);
    result
}

/// Has the second processor do `job`, and returns what came of it.
pub fn on_second<R: Send>(job: impl Fn() -> R + Sync) -> R {
    let result = SpinMutex::<Option<R>>::new(None);
    beside(&|| *result.lock() = Some(job()), || ());
    result.into_inner().expect("the job is done")
}

/// Waits until `until` holds. Whoever makes it hold must call [`wake`] afterwards.
///
/// Interrupts must be on: the other processor may be waiting for its flush.
pub fn wait(until: impl Fn() -> bool) {
    debug_assert!(interrupts::are_enabled());
    for _ in 0..LOOKS {
        if until() {
            return;
        }
        hint::spin_loop();
    }
    let asleep = &ASLEEP[number()];
    loop {
        // An interrupt between the last look and the sleep would not end the sleep.
        interrupts::disable();
        asleep.store(true, SeqCst);
        let holds = until();
        if holds {
            interrupts::enable();
        } else {
            interrupts::enable_and_hlt();
        }
        asleep.store(false, SeqCst);
        if holds {
            return;
        }
    }
}

/// Lets the other processor look again, if it sleeps.
pub fn wake() {
    let me = number();
    if (0..CPUS).any(|cpu| cpu != me && ASLEEP[cpu].load(SeqCst)) {
        apic::call_others();
    }
}

/// The other processor has interrupted this one.
pub fn called() {
    shootdown::serve();
}
