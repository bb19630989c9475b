//! Two processors: how they wait for each other, and how the second one is given work.

use core::hint;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64, fence};

use spin::Once;
use spin::mutex::SpinMutex;

pub use crate::CPUS;
pub use crate::cpu::number;
use crate::{cpu, interrupts, second};

/// Number of the second processor, which runs the jobs that the first one gives it.
pub const SECOND: usize = 1;

/// The number of times that a processor checks its condition before it sleeps. If the host has
/// fewer processors than this machine, the one that waits is in the way of the one that it waits
/// for.
const CHECKS: usize = 300;

static ASLEEP: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];
static UP: AtomicBool = AtomicBool::new(false);
/// The second processor's top page table, and what it does first.
static BEGINNING: Once<(u64, fn(usize))> = Once::new();

/// Work for the second processor.
#[derive(Clone, Copy)]
struct Job(*const (dyn Fn() + Sync));

// SAFETY: only the second processor follows the pointer, while `beside` keeps the closure that it
// points to, which is `Sync`.
unsafe impl Send for Job {}

static JOB: SpinMutex<Option<Job>> = SpinMutex::new(None);
/// Numbers of jobs given, and of jobs done.
static GIVEN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// The top page table of each processor.
static ROOTS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];

/// Makes `root` the top page table of this processor, which drops every TLB entry.
///
/// # Safety
///
/// `root` must be a page table that maps the running code, its stack and the direct map as they are
/// mapped now.
pub unsafe fn set_root(root: u64) {
    // Before the processor can cache an entry: see `uses`.
    ROOTS[number()].store(root, SeqCst);
    // SAFETY: the caller's promise.
    unsafe { cpu::set_root(root) };
}

/// Returns true if a processor may have cached entries of these tables. One that takes them up
/// later sees every entry as it is now, since it begins with an empty TLB.
pub fn uses(cpu: usize, root: u64) -> bool {
    ROOTS[cpu].load(SeqCst) == root
}

/// Starts the second processor with the page tables of `root`. It first calls `init` with its own
/// number, which sets its traps up and turns interrupts on.
///
/// # Safety
///
/// `root` must map the image, the direct map and all stacks for as long as the kernel runs.
pub unsafe fn start_second(root: u64, init: fn(usize)) {
    BEGINNING.call_once(|| (root, init));
    // SAFETY: `second_main` needs the two and nothing more. `Once` keeps the first.
    unsafe { second::start(|| UP.load(SeqCst)) };
}

/// Returns true once the second processor is up and may hold TLB entries.
pub fn is_second_up() -> bool {
    UP.load(SeqCst)
}

/// Entered once, from the entry code.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    let (root, init) = *BEGINNING.wait();
    init(SECOND);
    // SAFETY: the promise of `start_second`'s caller.
    unsafe { set_root(root) };
    UP.store(true, SeqCst);
    loop {
        wait(|| GIVEN.load(SeqCst) != DONE.load(SeqCst));
        let job = JOB.lock().take().expect("a job was given");
        // SAFETY: `beside` keeps the job until it is done.
        unsafe { (*job.0)() };
        DONE.fetch_add(1, SeqCst);
        wake();
    }
}

/// Runs `job` on the second processor while this one runs `body`. Returns when both are done.
///
/// # Panics
///
/// If the second processor has a job already.
pub fn beside<R>(job: &(dyn Fn() + Sync), body: impl FnOnce() -> R) -> R {
    assert!(number() != SECOND, "the second processor cannot give work");
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

/// Runs `job` on the second processor and returns its result.
pub fn on_second<R: Send>(job: impl Fn() -> R + Sync) -> R {
    let result = SpinMutex::<Option<R>>::new(None);
    beside(&|| *result.lock() = Some(job()), || ());
    result.into_inner().expect("the job is done")
}

/// Waits until `until` returns true. The processor that makes it true must call [`wake`]
/// afterwards.
///
/// Interrupts must be on: the other processor may be waiting for a flush of this one.
pub fn wait(until: impl Fn() -> bool) {
    debug_assert!(interrupts::are_enabled());
    for _ in 0..CHECKS {
        if until() {
            return;
        }
        hint::spin_loop();
    }
    let asleep = &ASLEEP[number()];
    loop {
        // An interrupt between the last check and the sleep would not end the sleep.
        interrupts::disable();
        asleep.store(true, SeqCst);
        // Pairs with the fence of `wake`. The orderings would do on a processor, but QEMU does not
        // keep Arm's store-release and load-acquire in order with each other.
        fence(SeqCst);
        let holds = until();
        if holds {
            interrupts::enable();
        } else {
            interrupts::enable_and_wait();
        }
        asleep.store(false, SeqCst);
        if holds {
            return;
        }
    }
}

/// Lets the other processor check its condition again, if it sleeps.
pub fn wake() {
    let me = number();
    fence(SeqCst); // pairs with the fence of `wait`
    if (0..CPUS).any(|cpu| cpu != me && ASLEEP[cpu].load(SeqCst)) {
        interrupts::call_others();
    }
}
