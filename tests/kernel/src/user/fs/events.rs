//! Counters of events (eventfd(2)).

use kvma::Errno;
use spin::mutex::SpinMutex;

use super::CHANGED;
use super::pipe::Wait;
use crate::user::errno::{EAGAIN, EINVAL};

/// How much a read takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    All,
    /// `EFD_SEMAPHORE`
    One,
}

/// A counter.
pub struct Events {
    state: SpinMutex<State>,
    step: Step,
}

struct State {
    count: u64,
    changes: u64,
}

/// The largest count.
const MOST: u64 = u64::MAX - 1;

impl Events {
    pub fn new(count: u64, step: Step) -> Self {
        Self { state: SpinMutex::new(State { count, changes: 0 }), step }
    }

    /// Makes a change if there is one to make, and waits until there is.
    fn change<R>(&self, wait: Wait, change: impl Fn(&mut State) -> Option<R>) -> Result<R, Errno> {
        let attempt = || {
            let mut state = self.state.lock();
            let done = change(&mut state);
            state.changes += u64::from(done.is_some());
            done
        };
        let done = match wait {
            Wait::Yes => CHANGED.wait(None, attempt)?,
            Wait::No => attempt().ok_or(EAGAIN)?,
        };
        CHANGED.wake_all();
        Ok(done)
    }

    /// Reads the counter, and waits until it is above 0.
    pub fn read(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Errno> {
        let buffer = buffer.first_chunk_mut().ok_or(EINVAL)?;
        let taken = self.change(wait, |state| {
            let taken = match self.step {
                Step::All => state.count,
                Step::One => state.count.min(1),
            };
            state.count -= taken;
            Some(taken).filter(|&taken| taken > 0)
        })?;
        *buffer = taken.to_ne_bytes();
        Ok(buffer.len())
    }

    /// Adds to the counter, and waits for room.
    pub fn write(&self, bytes: &[u8], wait: Wait) -> Result<usize, Errno> {
        let bytes = bytes.first_chunk().ok_or(EINVAL)?;
        let more = u64::from_ne_bytes(*bytes);
        if more > MOST {
            return Err(EINVAL);
        }
        self.change(wait, |state| {
            state.count = state.count.checked_add(more).filter(|&sum| sum <= MOST)?;
            Some(bytes.len())
        })
    }

    pub fn is_readable(&self) -> bool {
        self.state.lock().count > 0
    }

    pub fn is_writable(&self) -> bool {
        self.state.lock().count < MOST
    }

    /// Returns a number that is another one after each change.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }
}
