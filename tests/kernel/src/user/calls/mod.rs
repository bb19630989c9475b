//! System calls: a file for each topic, with a table of its calls.

#![expect(non_upper_case_globals, reason = "calls have the names that Linux' headers give them")]

mod descriptors;
mod epoll;
mod files;
pub mod futex;
mod identity;
mod memory;
mod poll;
mod processes;
mod signals;
mod time;

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kvma::Errno;
use spin::mutex::SpinMutex;

use super::errno::{EINTR, ENOSYS, ERESTARTNOHAND, ERESTARTSYS};
use super::fs::open_file::OpenFile;
use super::memory::Memory;
use super::process::Process;
use super::thread::{NO_CALL, Thread};
use crate::arch::user::UserContext;
use crate::println;

/// A system call that a thread makes.
pub struct Caller<'a> {
    pub thread: &'a Arc<Thread>,
    pub memory: Arc<Memory>,
    pub context: &'a mut UserContext,
    pub args: [u64; 6],
}

/// The answer of a call. Those of execve and sigreturn change the context instead.
type Handler = fn(&mut Caller<'_>) -> Result<Answer, Errno>;

/// The fate of the register for answers.
pub enum Answer {
    Value(u64),
    /// The context is as it must be.
    Untouched,
}

impl From<u64> for Answer {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}

impl Caller<'_> {
    pub fn process(&self) -> &Arc<Process> {
        &self.thread.process
    }

    pub fn file(&self, number: u64) -> Result<Arc<OpenFile>, Errno> {
        self.process().descriptors.lock().get(number)
    }

    /// Reads a string that an argument points to.
    pub fn string(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.memory.read_string(address)
    }
}

/// A call that a signal has interrupted.
pub struct Interrupted {
    pub number: u64,
    pub restart: Restart,
}

/// When an interrupted call is made again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// If no handler has run, or one with `SA_RESTART`.
    AfterHandlers,
    /// If no handler has run.
    UnlessHandled,
}

/// Makes the system call that the context asks for. Returns it if a signal has interrupted it.
pub fn make(thread: &Arc<Thread>, context: &mut UserContext) -> Option<Interrupted> {
    let (number, args) = (context.call_number(), context.call_arguments());
    let memory = thread.process.memory()?;
    thread.call.store(number, Relaxed);
    COUNT.fetch_add(1, Relaxed);
    let mut caller = Caller { thread, memory, context, args };
    let answer = match find(number) {
        Some(handler) => handler(&mut caller),
        None => {
            report_missing(number);
            Err(ENOSYS)
        }
    };
    thread.call.store(NO_CALL, Relaxed);
    let restart = match answer {
        Err(ERESTARTSYS) => Some(Restart::AfterHandlers),
        Err(ERESTARTNOHAND) => Some(Restart::UnlessHandled),
        _ => None,
    };
    match answer {
        Ok(Answer::Value(value)) => context.answer(value),
        Ok(Answer::Untouched) => {}
        Err(errno) => {
            let errno = if restart.is_some() { EINTR } else { errno };
            context.answer(i64::from(-errno.0).cast_unsigned());
        }
    }
    restart.map(|restart| Interrupted { number, restart })
}

/// The number of calls that were made.
pub static COUNT: AtomicU64 = AtomicU64::new(0);

/// The numbers of calls that do not exist here and were made.
static MISSING: SpinMutex<BTreeSet<u64>> = SpinMutex::new(BTreeSet::new());

/// Reports a call that does not exist here, once.
fn report_missing(number: u64) {
    if MISSING.lock().insert(number) {
        println!("system call {number} does not exist here");
    }
}

fn find(number: u64) -> Option<Handler> {
    let number = u32::try_from(number).ok()?;
    memory::find(number)
        .or_else(|| files::find(number))
        .or_else(|| descriptors::find(number))
        .or_else(|| processes::find(number))
        .or_else(|| signals::find(number))
        .or_else(|| time::find(number))
        .or_else(|| poll::find(number))
        .or_else(|| epoll::find(number))
        .or_else(|| identity::find(number))
        .or_else(|| futex::find(number))
}

/// Returns a number of 32 bits that was passed with its sign.
fn signed(value: u64) -> i64 {
    i64::from(value as u32 as i32)
}
