//! How threads wait for each other.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use kvma::Errno;
use spin::mutex::SpinMutex;

use super::errno::{ERESTARTSYS, ETIMEDOUT};
use super::scheduler;
use super::thread::{State, Thread};
use super::time::{self, Deadline};

/// Threads that wait for one thing.
pub struct WaitQueue(SpinMutex<VecDeque<Arc<Thread>>>);

impl WaitQueue {
    pub const fn new() -> Self {
        Self(SpinMutex::new(VecDeque::new()))
    }

    /// Lets all that wait check again.
    pub fn wake_all(&self) {
        // Not under the lock of the queue, which threads take while they are ready.
        let waiting = core::mem::take(&mut *self.0.lock());
        for thread in waiting {
            thread.wake();
        }
    }

    /// Waits until `ready` returns something.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` if a signal comes first, `ETIMEDOUT` after the deadline.
    pub fn wait<R>(
        &self,
        deadline: Option<Deadline>,
        mut ready: impl FnMut() -> Option<R>,
    ) -> Result<R, Errno> {
        loop {
            if let Some(result) = ready() {
                return Ok(result);
            }
            let again = Sleeper::new(self).sleep_unless(deadline, &mut ready)?;
            if let Some(result) = again {
                return Ok(result);
            }
        }
    }
}

/// A thread that is about to sleep.
struct Sleeper<'a> {
    thread: Arc<Thread>,
    queue: &'a WaitQueue,
}

impl<'a> Sleeper<'a> {
    fn new(queue: &'a WaitQueue) -> Self {
        Self { thread: scheduler::current(), queue }
    }

    /// Sleeps until somebody wakes the thread, unless there is a reason not to. What happens after
    /// the thread has said that it is asleep wakes it; what has happened before is seen by the
    /// checks.
    fn sleep_unless<R>(
        &self,
        deadline: Option<Deadline>,
        ready: &mut impl FnMut() -> Option<R>,
    ) -> Result<Option<R>, Errno> {
        self.thread.change_state(State::Ready, State::Asleep);
        self.queue.0.lock().push_back(self.thread.clone());
        let reason = if let Some(result) = ready() {
            Some(Ok(Some(result)))
        } else if self.thread.is_interrupted() {
            Some(Err(ERESTARTSYS))
        } else if deadline.is_some_and(|deadline| deadline.is_over()) {
            Some(Err(ETIMEDOUT))
        } else {
            None
        };
        let Some(reason) = reason else {
            if let Some(deadline) = deadline {
                time::wake_at(deadline, &self.thread);
            }
            scheduler::leave();
            self.leave_queue();
            time::forget(&self.thread);
            return Ok(None);
        };
        if !self.thread.change_state(State::Asleep, State::Ready) {
            // It was woken, so it is in the queue of threads that are ready, and must leave its
            // stack before another processor takes it from there.
            scheduler::leave();
        }
        self.leave_queue();
        reason
    }

    fn leave_queue(&self) {
        self.queue.0.lock().retain(|thread| !Arc::ptr_eq(thread, &self.thread));
    }
}
