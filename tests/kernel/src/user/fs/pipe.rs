//! Pipes.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use kvma::Errno;
use spin::mutex::SpinMutex;

use super::CHANGED;
use crate::user::errno::{EAGAIN, EPIPE};
use crate::user::wait::WaitQueue;

/// The number of bytes that a pipe holds.
const CAPACITY: usize = 64 << 10;
/// Up to so many bytes are written as one (`PIPE_BUF`).
const ATOMIC: usize = 4096;

/// A pipe.
pub struct Pipe {
    state: SpinMutex<State>,
    changed: WaitQueue,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    readers: usize,
    writers: usize,
    changes: u64,
}

/// Which end of a pipe a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Read,
    Write,
}

/// The choice of a call to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Yes,
    No,
}

/// An open end of a pipe.
pub struct PipeEnd {
    pub pipe: Arc<Pipe>,
    pub end: End,
}

impl PipeEnd {
    pub fn new(pipe: Arc<Pipe>, end: End) -> Self {
        let mut state = pipe.state.lock();
        match end {
            End::Read => state.readers += 1,
            End::Write => state.writers += 1,
        }
        drop(state);
        Self { pipe, end }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        match self.end {
            End::Read => state.readers -= 1,
            End::Write => state.writers -= 1,
        }
        state.changes += 1;
        drop(state);
        self.pipe.wake();
    }
}

impl Pipe {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: SpinMutex::new(State::default()), changed: WaitQueue::new() })
    }

    fn wake(&self) {
        self.changed.wake_all();
        CHANGED.wake_all();
    }

    /// Reads what there is, and waits until there is something. 0 once nobody can write any more.
    pub fn read(&self, buffer: &mut [u8], wait: Wait) -> Result<usize, Errno> {
        let mut try_read = || {
            let mut state = self.state.lock();
            if state.bytes.is_empty() {
                return (state.writers == 0).then_some(0);
            }
            let len = state.bytes.len().min(buffer.len());
            for (byte, to) in state.bytes.drain(..len).zip(buffer.iter_mut()) {
                *to = byte;
            }
            state.changes += 1;
            Some(len)
        };
        let len = match wait {
            Wait::Yes => self.changed.wait(None, try_read)?,
            Wait::No => try_read().ok_or(EAGAIN)?,
        };
        if len > 0 {
            self.wake();
        }
        Ok(len)
    }

    /// Writes all bytes, and waits for room.
    ///
    /// # Errors
    ///
    /// `EPIPE` if nobody can read them, which is also a signal; `ERESTARTSYS`.
    pub fn write(&self, bytes: &[u8], wait: Wait) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            let try_write = || {
                let mut state = self.state.lock();
                if state.readers == 0 {
                    return Some(Err(EPIPE));
                }
                let room = CAPACITY - state.bytes.len();
                let wanted = if bytes.len() <= ATOMIC { rest.len() } else { 1 };
                if room < wanted {
                    return None;
                }
                let len = room.min(rest.len());
                state.bytes.extend(&rest[..len]);
                state.changes += 1;
                Some(Ok(len))
            };
            let written = match wait {
                Wait::Yes => self.changed.wait(None, try_write).and_then(|written| written),
                Wait::No => try_write().unwrap_or(Err(EAGAIN)),
            };
            match written {
                Ok(len) => done += len,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            self.wake();
        }
        Ok(done)
    }

    /// Returns true if there is something to read. A read from a pipe without writers does not wait
    /// either, but poll(2) has another event for that.
    pub fn is_readable(&self) -> bool {
        !self.state.lock().bytes.is_empty()
    }

    /// Returns true if there is room for a few bytes.
    pub fn is_writable(&self) -> bool {
        CAPACITY - self.state.lock().bytes.len() >= ATOMIC
    }

    /// Returns a number that is another one after each change.
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Returns true if the other end is closed.
    pub fn is_broken(&self, end: End) -> bool {
        let state = self.state.lock();
        match end {
            End::Read => state.writers == 0,
            End::Write => state.readers == 0,
        }
    }
}
