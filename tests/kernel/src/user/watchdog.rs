//! The work of each tick of the clock: turns end, alarms go off, and a machine that hangs is ended
//! with the state of each processor.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use super::signals::SIGALRM;
use super::time::{self, Deadline};
use super::{process, scheduler};
use crate::arch::cpu;
use crate::cpus::{CPUS, number};

/// When the machine is ended, in nanoseconds since it was started; 0 for never.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// The instruction of each processor at its last tick, with the lowest bit set in ring 3: code is
/// not compared with it.
static SEEN: [(AtomicU64, AtomicBool); CPUS] =
    [const { (AtomicU64::new(0), AtomicBool::new(false)) }; CPUS];
static ENDING: AtomicBool = AtomicBool::new(false);

/// Ends the machine after so many seconds from now.
pub fn start(seconds: u64) {
    LIMIT.store(time::now() + seconds * 1_000_000_000, Relaxed);
}

/// Called in the interrupt of each processor's clock, with interrupts off.
pub fn tick(instruction: u64, in_user: bool) {
    let (at, ring) = &SEEN[number()];
    at.store(instruction, Relaxed);
    ring.store(in_user, Relaxed);
    scheduler::end_turn();
    let limit = LIMIT.load(Relaxed);
    if limit != 0 && time::now() > limit && !ENDING.swap(true, SeqCst) {
        give_up();
    }
}

fn give_up() -> ! {
    let running = scheduler::running();
    for (cpu, ((at, ring), thread)) in SEEN.iter().zip(&running).enumerate() {
        let ring = if ring.load(Relaxed) { "in ring 3" } else { "in the kernel" };
        let mode = if cpu == number() { "here" } else { "at its last tick" };
        crate::println!("processor {cpu} {mode}: {ring}, at {:#x}", at.load(Relaxed));
        match thread {
            Some(thread) => crate::println!(
                "  thread {} of process {}, system call {}",
                thread.id,
                thread.process.id,
                thread.call.load(Relaxed).cast_signed()
            ),
            None => crate::println!("  no thread"),
        }
    }
    // Whoever was interrupted here may hold the locks of the lists.
    for process in process::try_all() {
        for thread in process.try_threads() {
            crate::println!(
                "thread {} of process {}: {:?}, system call {}",
                thread.id,
                process.id,
                thread.state(),
                thread.call.load(Relaxed).cast_signed()
            );
        }
    }
    panic!("the time is up (page tables {:#x} here)", cpu::root());
}

/// When the next alarm goes off, in nanoseconds since the machine was started. It may be earlier
/// than that, but not later.
static NEXT_ALARM: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets the alarm of a process, or takes it away. Returns the one from before.
pub fn set_alarm(process: &process::Process, at: Option<u64>) -> Option<u64> {
    let before = process.alarm.swap(at.unwrap_or(0), SeqCst);
    if let Some(at) = at {
        NEXT_ALARM.fetch_min(at, SeqCst);
    }
    (before != 0).then_some(before)
}

/// Returns true if an alarm goes off now.
pub fn is_alarm_due() -> bool {
    time::now() >= NEXT_ALARM.load(SeqCst)
}

/// Sends the signals of alarms that have gone off.
pub fn send_alarms() {
    if !is_alarm_due() {
        return;
    }
    NEXT_ALARM.store(u64::MAX, SeqCst);
    for process in process::all() {
        let alarm = process.alarm.load(SeqCst);
        if alarm == 0 {
            continue;
        }
        if !Deadline::at(alarm).is_over() {
            NEXT_ALARM.fetch_min(alarm, SeqCst);
        } else if process.alarm.compare_exchange(alarm, 0, SeqCst, SeqCst).is_ok() {
            process.send(SIGALRM);
        }
    }
}
