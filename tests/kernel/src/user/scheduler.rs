//! The scheduler: which thread runs on which processor.
//!
//! There is one queue of threads that are ready. Each processor takes the next one, runs it until
//! it sleeps or its time is over, and comes back to its own stack in between, so that no two
//! threads ever wait for each other to leave a processor.
//!
//! Threads are preempted in ring 3 alone. In the kernel, a thread runs until it sleeps.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::hint;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::mutex::SpinMutex;

use super::thread::Thread;
use super::{time, watchdog};
use crate::arch::interrupts;
use crate::arch::kernel_stack::switch;
use crate::cpus::{self, CPUS, number};

/// The time after which another thread has its turn, in microseconds.
pub const TURN: u32 = 10_000;

static READY: SpinMutex<VecDeque<Arc<Thread>>> = SpinMutex::new(VecDeque::new());
static CURRENT: [SpinMutex<Option<Arc<Thread>>>; CPUS] = [const { SpinMutex::new(None) }; CPUS];
/// The stack pointer of each processor's own stack.
static SCHEDULERS: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// Set when the turn of a processor's thread is over.
static OVER: [AtomicBool; CPUS] = [const { AtomicBool::new(false) }; CPUS];
/// Set when no thread will ever run again.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Puts a thread that is ready at the end of the queue.
pub fn enqueue(thread: Arc<Thread>) {
    READY.lock().push_back(thread);
    cpus::wake();
}

/// Returns the thread that runs on this processor.
///
/// # Panics
///
/// If there is none.
pub fn current() -> Arc<Thread> {
    CURRENT[number()].lock().clone().expect("a thread runs")
}

/// Returns the threads that run, for a report. None for a processor whose thread changes.
pub fn running() -> [Option<Arc<Thread>>; CPUS] {
    [0, 1].map(|cpu| CURRENT[cpu].try_lock().and_then(|current| current.clone()))
}

/// Notes that the turn of this processor's thread is over.
pub fn end_turn() {
    OVER[number()].store(true, SeqCst);
}

/// Lets another thread run if the turn of this one is over.
pub fn preempt() {
    if OVER[number()].swap(false, SeqCst) {
        // The processor then looks for threads whose time has come, too.
        yield_now();
    }
}

/// Lets another thread run.
pub fn yield_now() {
    let me = current();
    READY.lock().push_back(me);
    leave();
}

/// Sleeps until [`Thread::wake`]. The thread has said that it is asleep, or is in the queue.
pub(super) fn leave() {
    let stack_pointer: *const AtomicU64 = {
        // Dropped here, as a thread that has ended does not come back.
        let me = current();
        &raw const me.stack_pointer
    };
    let scheduler = SCHEDULERS[number()].load(SeqCst);
    // SAFETY: the processor's own stack waits in `run`, which keeps the thread until the switch is
    // over.
    unsafe { switch(&*stack_pointer, scheduler) };
}

/// Starts this processor's clock, which ends turns, and a machine that hangs.
pub fn start_ticks() {
    interrupts::start_ticks(TURN);
}

/// Lets the processor run threads until [`end`]. `root` is a table of the kernel alone.
pub fn run(root: u64) {
    start_ticks();
    while !ENDED.load(SeqCst) {
        time::wake_sleepers();
        watchdog::send_alarms();
        let Some(thread) = READY.lock().pop_front() else {
            // SAFETY: the root maps the kernel, and lives as long.
            unsafe { cpus::set_root(root) };
            time::wait_for(|| {
                ENDED.load(SeqCst) || !READY.lock().is_empty() || watchdog::is_alarm_due()
            });
            continue;
        };
        // It was made ready while it was still on its way to sleep.
        while thread.on_processor.swap(true, SeqCst) {
            hint::spin_loop();
        }
        thread.load();
        let (me, to) = (number(), thread.stack_pointer.load(SeqCst));
        *CURRENT[me].lock() = Some(thread.clone());
        OVER[me].store(false, SeqCst);
        // SAFETY: the thread has left its stack there, and no other processor runs it.
        unsafe { switch(&SCHEDULERS[me], to) };
        thread.check_stack();
        *CURRENT[me].lock() = None;
        // Once the other processor may run the thread, its memory may go.
        // SAFETY: as above.
        unsafe { cpus::set_root(root) };
        thread.on_processor.store(false, SeqCst);
    }
    // SAFETY: as above.
    unsafe { cpus::set_root(root) };
}

/// Ends [`run`] on both processors.
pub fn end() {
    ENDED.store(true, SeqCst);
    cpus::wake();
}
