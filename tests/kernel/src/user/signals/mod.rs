//! Signals, as far as memory and shells need them: faults, kill, alarms, and the end of children.

mod deliver;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use self::deliver::{deliver, force, return_from_handler};
use super::bytes::Bytes;
use super::process::Process;
use super::thread::Thread;
use crate::arch::interrupts;

pub const SIGILL: u32 = 4;
pub const SIGTRAP: u32 = 5;
pub const SIGBUS: u32 = 7;
pub const SIGFPE: u32 = 8;
pub const SIGKILL: u32 = 9;
pub const SIGSEGV: u32 = 11;
pub const SIGPIPE: u32 = 13;
pub const SIGALRM: u32 = 14;
pub const SIGCHLD: u32 = 17;
pub const SIGCONT: u32 = 18;
pub const SIGSTOP: u32 = 19;
const SIGTSTP: u32 = 20;
const SIGTTIN: u32 = 21;
const SIGTTOU: u32 = 22;
const SIGURG: u32 = 23;
const SIGWINCH: u32 = 28;
/// Signals are numbered from 1 to here.
pub const MOST: u32 = 64;

/// A set of signals, as programs pass it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    /// Those that cannot be blocked, caught or ignored.
    const UNSTOPPABLE: Self = Self(1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1));

    pub fn of(signal: u32) -> Self {
        Self(1 << (signal - 1))
    }

    pub fn contains(self, signal: u32) -> bool {
        self.0 & Self::of(signal).0 != 0
    }

    /// Returns the set without what cannot be blocked.
    pub fn blockable(self) -> Self {
        Self(self.0 & !Self::UNSTOPPABLE.0)
    }
}

/// The information that comes with a signal (`siginfo_t`).
#[derive(Clone, Copy, Debug, Default)]
pub struct Info {
    pub signal: u32,
    pub code: i32,
    /// The address of a fault, or the process that has sent it.
    pub origin: u64,
}

/// The length of `siginfo_t`.
pub const INFO_LEN: usize = 128;

/// Returns `siginfo_t`.
pub fn siginfo(info: &Info) -> Vec<u8> {
    let bytes = Bytes::new().u32(info.signal).u32(0).u32(info.code as u32).u32(0);
    let faults = matches!(info.signal, SIGSEGV | SIGBUS | SIGILL | SIGFPE) && info.code > 0;
    let bytes = if faults { bytes.u64(info.origin) } else { bytes.u32(info.origin as u32).u32(0) };
    bytes.up_to(INFO_LEN).into_vec()
}

/// `si_code`s.
pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 0x80;
pub const BUS_ADRERR: i32 = 2;

/// The action of a process on a signal (`struct sigaction` of the kernel).
#[derive(Clone, Copy, Debug, Default)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: Set,
}

/// `SIG_DFL`, `SIG_IGN`.
const DEFAULT: u64 = 0;
const IGNORE: u64 = 1;

const SA_NOCLDWAIT: u64 = 2;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// The actions of a process.
#[derive(Clone)]
pub struct Actions([Action; MOST as usize + 1]);

impl Default for Actions {
    fn default() -> Self {
        Self([Action::default(); MOST as usize + 1])
    }
}

impl Actions {
    pub fn get(&self, signal: u32) -> Action {
        self.0[signal as usize]
    }

    pub fn set(&mut self, signal: u32, action: Action) {
        self.0[signal as usize] = action;
    }

    /// Returns true if the signal has no effect.
    fn ignores(&self, signal: u32) -> bool {
        match self.get(signal).handler {
            DEFAULT => matches!(
                signal,
                SIGCHLD | SIGCONT | SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU | SIGURG | SIGWINCH
            ),
            IGNORE => true,
            _ => false,
        }
    }

    /// Returns true if children leave nothing behind when they end.
    pub fn ignores_children(&self) -> bool {
        let action = self.get(SIGCHLD);
        action.handler == IGNORE || action.flags & SA_NOCLDWAIT != 0
    }

    /// Forgets all handlers, which are not there any more after execve.
    pub fn forget_handlers(&mut self) {
        for action in &mut self.0 {
            if action.handler != IGNORE {
                *action = Action::default();
            }
        }
    }
}

/// A stack for handlers (sigaltstack(2)).
#[derive(Clone, Copy, Debug)]
pub struct AlternateStack {
    pub start: u64,
    pub flags: u32,
    pub len: u64,
}

pub const SS_ONSTACK: u32 = 1;
pub const SS_DISABLE: u32 = 2;

impl Default for AlternateStack {
    fn default() -> Self {
        Self { start: 0, flags: SS_DISABLE, len: 0 }
    }
}

impl AlternateStack {
    /// Returns true if the stack pointer lies there.
    pub fn holds(&self, stack_pointer: u64) -> bool {
        self.flags & SS_DISABLE == 0
            && stack_pointer > self.start
            && stack_pointer - self.start <= self.len
    }
}

/// The signals of one thread.
#[derive(Default)]
pub struct ThreadSignals {
    pub mask: Set,
    pub pending: BTreeMap<u32, Info>,
    pub stack: AlternateStack,
    /// The mask to return to after sigsuspend(2) and the like.
    pub saved_mask: Option<Set>,
}

/// The signals of a process, which any of its threads may take.
#[derive(Default)]
pub struct ProcessSignals {
    pub pending: BTreeMap<u32, Info>,
}

impl Process {
    /// Sends a signal of the kernel's.
    pub fn send(&self, signal: u32) {
        self.send_info(Info { signal, code: SI_KERNEL, origin: 0 });
    }

    /// Sends a signal to any thread that takes it.
    pub fn send_info(&self, info: Info) {
        if self.drops(info.signal) {
            return;
        }
        self.signals.lock().pending.insert(info.signal, info);
        for thread in self.threads() {
            if !thread.signals.lock().mask.contains(info.signal) {
                thread.wake();
            }
        }
        interrupts::call_others();
    }

    /// Returns true if a signal has no effect, as nobody blocks it to look at it later.
    fn drops(&self, signal: u32) -> bool {
        let blocked = || self.threads().iter().any(|t| t.signals.lock().mask.contains(signal));
        self.actions.lock().ignores(signal) && !blocked()
    }
}

impl Thread {
    /// Sends a signal to this thread.
    pub fn send_info(self: &Arc<Self>, info: Info) {
        if self.process.actions.lock().ignores(info.signal)
            && !self.signals.lock().mask.contains(info.signal)
        {
            return;
        }
        self.signals.lock().pending.insert(info.signal, info);
        self.wake();
        interrupts::call_others();
    }

    /// Returns true if the thread is not to sleep: it is about to end, or has a signal to take.
    pub fn is_interrupted(&self) -> bool {
        self.is_to_end() || self.next_signal(Take::No).is_some()
    }

    /// Takes a signal of this set, blocked or not: sigtimedwait(2).
    pub fn take_signal(&self, set: Set) -> Option<Info> {
        let mut mine = self.signals.lock();
        let mut all = self.process.signals.lock();
        [&mut mine.pending, &mut all.pending].into_iter().find_map(|pending| {
            let signal = pending.keys().copied().find(|&signal| set.contains(signal))?;
            pending.remove(&signal)
        })
    }

    /// Returns the next signal that is not blocked.
    fn next_signal(&self, take: Take) -> Option<Info> {
        let mut mine = self.signals.lock();
        let mask = mine.mask;
        let mut all = self.process.signals.lock();
        let next = |pending: &BTreeMap<u32, Info>| {
            pending.values().find(|info| !mask.contains(info.signal)).copied()
        };
        let info = next(&mine.pending).or_else(|| next(&all.pending))?;
        if take == Take::Yes && mine.pending.remove(&info.signal).is_none() {
            all.pending.remove(&info.signal);
        }
        Some(info)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    Yes,
    No,
}
