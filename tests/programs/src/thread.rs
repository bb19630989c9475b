//! A second thread.

use linux_raw_sys::general::{
    CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM,
};

use crate::arch::start_thread;
use crate::mapping::Mapping;
use crate::system::{exit_thread, succeeded};

const STACK: usize = 256 << 10;

/// Runs `work` in a thread of its own, whose stack stays.
pub fn start(work: extern "C" fn()) {
    let flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    let stack = Mapping::private(STACK);
    stack.store(STACK - 16, run as *const () as u64);
    stack.store(STACK - 8, work as *const () as u64);
    // SAFETY: the stack is nobody else's, and on it lie a function and its argument.
    let id = unsafe { start_thread(flags as usize, stack.start() + STACK - 16) };
    succeeded("clone", id);
}

extern "C" fn run(work: extern "C" fn()) -> ! {
    work();
    exit_thread()
}
