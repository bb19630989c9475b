//! Processes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use spin::mutex::SpinMutex;

use super::fs::Directory;
use super::fs::descriptors::Descriptors;
use super::memory::Memory;
use super::signals::{Actions, ProcessSignals, SIGCHLD};
use super::thread::Thread;
use super::wait::WaitQueue;
use super::{calls, check, kernel_root, record, scheduler};
use crate::cpus;

/// How a process has ended, as wait4(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2), with the lowest eight bits of its status.
    Status(u8),
    /// By a signal.
    Signal(u32),
}

impl Exit {
    /// Returns the status as wait4 stores it.
    pub fn wait_status(self) -> u32 {
        match self {
            Self::Status(status) => u32::from(status) << 8,
            Self::Signal(signal) => signal,
        }
    }

    /// Returns the status as a shell reports it.
    pub fn shell_status(self) -> u8 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal as u8,
        }
    }
}

/// A process.
pub struct Process {
    pub id: u32,
    /// 0 if nobody waits for its end.
    pub parent: AtomicU32,
    pub group: AtomicU32,
    pub session: AtomicU32,
    /// `None` once it has ended.
    memory: SpinMutex<Option<Arc<Memory>>>,
    pub descriptors: SpinMutex<Descriptors>,
    pub directory: SpinMutex<Directory>,
    pub umask: AtomicU32,
    /// The path of its program, and the name of its main thread.
    pub program: SpinMutex<Program>,
    threads: SpinMutex<Vec<Arc<Thread>>>,
    pub actions: SpinMutex<Actions>,
    pub signals: SpinMutex<ProcessSignals>,
    /// Set when all its threads are to end.
    ending: SpinMutex<Option<Exit>>,
    exit: SpinMutex<Option<Exit>>,
    /// Woken when a child ends.
    pub children: WaitQueue,
    /// Set when a child by vfork no longer uses its parent's memory.
    pub(super) released: AtomicBool,
    pub(super) released_queue: WaitQueue,
    /// When alarm(2) sends its signal, in nanoseconds since the start; 0 for never.
    pub alarm: AtomicU64,
}

/// The program of a process.
#[derive(Clone, Default)]
pub struct Program {
    pub path: String,
    pub name: String,
    pub arguments: Vec<Vec<u8>>,
}

static PROCESSES: SpinMutex<BTreeMap<u32, Arc<Process>>> = SpinMutex::new(BTreeMap::new());

/// Returns a process by its number.
pub fn find(id: u32) -> Option<Arc<Process>> {
    PROCESSES.lock().get(&id).cloned()
}

/// Returns all processes, for a report; none if the table is in use.
pub fn try_all() -> Vec<Arc<Process>> {
    PROCESSES.try_lock().map(|processes| processes.values().cloned().collect()).unwrap_or_default()
}

/// Returns all processes.
pub fn all() -> Vec<Arc<Process>> {
    PROCESSES.lock().values().cloned().collect()
}

impl Process {
    /// Makes a process without threads.
    pub fn new(id: u32, memory: Arc<Memory>, directory: Directory) -> Arc<Self> {
        let process = Arc::new(Self {
            id,
            parent: AtomicU32::new(0),
            group: AtomicU32::new(id),
            session: AtomicU32::new(id),
            memory: SpinMutex::new(Some(memory)),
            descriptors: SpinMutex::new(Descriptors::default()),
            directory: SpinMutex::new(directory),
            umask: AtomicU32::new(0o022),
            program: SpinMutex::new(Program::default()),
            threads: SpinMutex::new(Vec::new()),
            actions: SpinMutex::new(Actions::default()),
            signals: SpinMutex::new(ProcessSignals::default()),
            ending: SpinMutex::new(None),
            exit: SpinMutex::new(None),
            children: WaitQueue::new(),
            released: AtomicBool::new(false),
            released_queue: WaitQueue::new(),
            alarm: AtomicU64::new(0),
        });
        PROCESSES.lock().insert(id, process.clone());
        process
    }

    /// Makes a child with this memory, which otherwise has what its parent has.
    pub fn child(&self, id: u32, memory: Arc<Memory>) -> Arc<Self> {
        let child = Self::new(id, memory, self.directory.lock().clone());
        child.parent.store(self.id, SeqCst);
        child.group.store(self.group.load(SeqCst), SeqCst);
        child.session.store(self.session.load(SeqCst), SeqCst);
        child.umask.store(self.umask.load(SeqCst), SeqCst);
        *child.descriptors.lock() = self.descriptors.lock().clone();
        *child.program.lock() = self.program.lock().clone();
        *child.actions.lock() = self.actions.lock().clone();
        child
    }

    /// Takes a process that never had a thread out of the table.
    pub fn forget(&self) {
        PROCESSES.lock().remove(&self.id);
    }

    /// Returns the memory. `None` once the process has ended.
    pub fn memory(&self) -> Option<Arc<Memory>> {
        self.memory.lock().clone()
    }

    /// Replaces the memory by another, which the processor uses from now on.
    pub fn replace_memory(&self, memory: Arc<Memory>) {
        memory.enter();
        let old = self.memory.lock().replace(memory);
        // The last reference takes everything that is mapped with it.
        drop(old);
        self.release_parent();
    }

    /// Lets a parent that has made this process by vfork go on.
    fn release_parent(&self) {
        self.released.store(true, SeqCst);
        self.released_queue.wake_all();
    }

    pub fn threads(&self) -> Vec<Arc<Thread>> {
        self.threads.lock().clone()
    }

    /// Returns the threads, for a report; none if the list is in use.
    pub fn try_threads(&self) -> Vec<Arc<Thread>> {
        self.threads.try_lock().map(|threads| threads.clone()).unwrap_or_default()
    }

    /// Adds a thread, and lets it run. False if the process is about to end.
    pub fn start(&self, thread: Arc<Thread>) -> bool {
        let mut threads = self.threads.lock();
        if self.ending.lock().is_some() {
            return false;
        }
        threads.push(thread.clone());
        drop(threads);
        scheduler::enqueue(thread);
        true
    }

    /// Returns how the process has ended.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.lock()
    }

    /// Returns how the process is about to end.
    pub fn ending(&self) -> Option<Exit> {
        *self.ending.lock()
    }

    /// Lets all threads end. The first call decides how.
    pub fn end(&self, exit: Exit) {
        self.ending.lock().get_or_insert(exit);
        for thread in self.threads() {
            thread.wake();
        }
        // A thread that runs on the other processor finds out when it is interrupted.
        crate::arch::interrupts::call_others();
    }

    /// Returns true if the process has one thread.
    pub fn is_alone(&self) -> bool {
        self.threads.lock().len() == 1
    }

    /// Removes an ended child from the table, and returns how it has ended. `None` if nothing
    /// matches, and nothing in the middle if none has ended.
    pub fn reap(&self, matches: impl Fn(&Self) -> bool, keep: Keep) -> Option<Option<(u32, Exit)>> {
        let mut processes = PROCESSES.lock();
        let mut any = false;
        for child in processes.values() {
            if child.parent.load(SeqCst) != self.id || !matches(child) {
                continue;
            }
            any = true;
            if let Some(exit) = child.exit() {
                let id = child.id;
                if keep == Keep::No {
                    processes.remove(&id);
                }
                return Some(Some((id, exit)));
            }
        }
        any.then_some(None)
    }

    /// Frees what an ended process has. Its number stays until its parent has asked.
    fn bury(self: &Arc<Self>, exit: Exit) {
        self.descriptors.lock().close_all();
        // SAFETY: the kernel's own root maps the kernel, and lives as long.
        unsafe { cpus::set_root(kernel_root()) };
        let memory = self.memory.lock().take();
        drop(memory);
        self.release_parent();
        let parent = {
            let mut processes = PROCESSES.lock();
            for child in processes.values().filter(|child| child.parent.load(SeqCst) == self.id) {
                child.parent.store(0, SeqCst);
            }
            processes.retain(|_, p| p.parent.load(SeqCst) != 0 || p.exit().is_none());
            *self.exit.lock() = Some(exit);
            let parent = processes.get(&self.parent.load(SeqCst)).cloned();
            if parent.as_ref().is_none_or(|parent| parent.actions.lock().ignores_children()) {
                processes.remove(&self.id);
            }
            parent
        };
        if let Some(parent) = parent {
            parent.send(SIGCHLD);
            parent.children.wake_all();
        }
        super::ended(self.id, exit);
    }
}

/// The choice to leave an ended child in the table (`WNOWAIT`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Yes,
    No,
}

/// Ends the thread that calls.
pub fn end_thread() -> ! {
    let thread = scheduler::current();
    let process = thread.process.clone();
    let clear = thread.clear_tid.load(SeqCst);
    if clear != 0
        && let Some(memory) = process.memory()
        && memory.write_u32(clear, 0).is_ok()
    {
        calls::futex::wake_one(&memory, clear);
    }
    let last = {
        let mut threads = process.threads.lock();
        threads.retain(|other| other.id != thread.id);
        threads.is_empty()
    };
    if last {
        if let Some(memory) = process.memory() {
            record::end(&memory);
            if Arc::strong_count(&memory) == 2 {
                // This reference, and the process'.
                check::check(&memory);
            }
        }
        let exit = process.ending().unwrap_or(Exit::Status(thread.status()));
        process.bury(exit);
    }
    thread.set_dead();
    // Nothing on this stack is dropped any more.
    drop((process, thread));
    scheduler::leave();
    unreachable!("a dead thread goes on")
}
