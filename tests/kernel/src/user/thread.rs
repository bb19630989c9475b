//! Threads.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

use spin::mutex::SpinMutex;

use super::process::Process;
use super::scheduler;
use super::signals::ThreadSignals;
use crate::arch::kernel_stack::KernelStack;
use crate::arch::user::{ThreadRegisters, UserContext};

/// The state of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It runs, or waits in the run queue.
    Ready,
    /// It waits for something, and whoever brings that about makes it ready.
    Asleep,
    /// It never runs again.
    Dead,
}

/// A thread of a process.
pub struct Thread {
    pub id: u32,
    pub process: Arc<Process>,
    stack: KernelStack,
    /// The stack pointer with which it left its kernel stack.
    pub(super) stack_pointer: AtomicU64,
    pub registers: ThreadRegisters,
    state: AtomicU8,
    /// True while a processor uses its stack. The scheduler waits for the end of that.
    pub(super) on_processor: AtomicBool,
    pub signals: SpinMutex<ThreadSignals>,
    /// The word to set to 0, and futex to wake, when the thread ends (`CLONE_CHILD_CLEARTID`).
    pub clear_tid: AtomicU64,
    /// Set when the thread is to end before it goes back to ring 3, with its status.
    to_end: AtomicBool,
    status: AtomicU8,
    /// The system call that it makes, for a report.
    pub call: AtomicU64,
}

/// No system call.
pub const NO_CALL: u64 = u64::MAX;

static NEXT_ID: AtomicU32 = AtomicU32::new(100);

/// Returns an id for a process or a thread, never used again.
pub fn new_id() -> u32 {
    NEXT_ID.fetch_add(1, Relaxed)
}

impl Thread {
    /// Makes a thread that will enter ring 3 with these registers. `None` without memory.
    pub fn new(
        id: u32,
        process: Arc<Process>,
        context: &UserContext,
        registers: ThreadRegisters,
    ) -> Option<Arc<Self>> {
        let mut stack = KernelStack::new()?;
        let stack_pointer = AtomicU64::new(stack.prepare(context));
        Some(Arc::new(Self {
            id,
            process,
            stack,
            stack_pointer,
            registers,
            state: AtomicU8::new(State::Ready as u8),
            on_processor: AtomicBool::new(false),
            signals: SpinMutex::new(ThreadSignals::default()),
            clear_tid: AtomicU64::new(0),
            to_end: AtomicBool::new(false),
            status: AtomicU8::new(0),
            call: AtomicU64::new(NO_CALL),
        }))
    }

    /// Makes its registers and its memory those of the processor that calls.
    pub fn load(&self) {
        if let Some(memory) = self.process.memory() {
            memory.enter();
        }
        self.registers.load(&self.stack);
    }

    /// Lets the thread end before it goes back to ring 3.
    pub fn end(self: &Arc<Self>, status: u8) {
        self.status.store(status, SeqCst);
        self.to_end.store(true, SeqCst);
        self.wake();
    }

    /// Returns true if the thread is to end before it goes back to ring 3.
    pub fn is_to_end(&self) -> bool {
        self.to_end.load(SeqCst) || self.process.ending().is_some()
    }

    /// Returns the status with which it ends.
    pub fn status(&self) -> u8 {
        self.status.load(SeqCst)
    }

    pub(super) fn check_stack(&self) {
        self.stack.check();
    }

    pub fn state(&self) -> State {
        match self.state.load(SeqCst) {
            0 => State::Ready,
            1 => State::Asleep,
            _ => State::Dead,
        }
    }

    /// Changes the state from one to another. False if it was a third one.
    pub(super) fn change_state(&self, from: State, to: State) -> bool {
        self.state.compare_exchange(from as u8, to as u8, SeqCst, SeqCst).is_ok()
    }

    /// Says that the thread never runs again.
    pub(super) fn set_dead(&self) {
        self.state.store(State::Dead as u8, SeqCst);
    }

    /// Lets the thread go on if it sleeps.
    pub fn wake(self: &Arc<Self>) {
        if self.change_state(State::Asleep, State::Ready) {
            scheduler::enqueue(self.clone());
        }
    }
}
