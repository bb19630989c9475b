//! System calls.

use linux_raw_sys::general::{
    __NR_clone, __NR_exit, __NR_exit_group, __NR_ftruncate, __NR_memfd_create, __NR_pread64,
    __NR_pwrite64, __NR_sched_yield, __NR_wait4, SIGCHLD,
};

use crate::arch;

/// Returns the answer of a call that is to succeed.
///
/// # Panics
///
/// If it has failed.
pub fn succeeded(call: &str, answer: isize) -> usize {
    usize::try_from(answer).unwrap_or_else(|_| panic!("{call}: error {}", answer.unsigned_abs()))
}

/// Ends the program.
pub fn exit(status: u8) -> ! {
    loop {
        // SAFETY: nothing of the program's is needed any more.
        unsafe { arch::call(__NR_exit_group, [status.into(), 0, 0, 0, 0, 0]) };
    }
}

/// Ends the thread.
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: nothing of the thread's is needed any more; its stack stays.
        unsafe { arch::call(__NR_exit, [0; 6]) };
    }
}

/// Lets other threads run until it is so.
pub fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        // SAFETY: touches no memory.
        unsafe { arch::call(__NR_sched_yield, [0; 6]) };
    }
}

/// Runs `work` in a child, whose status it returns. The parent goes on.
pub fn fork(work: impl FnOnce() -> u8) -> Child {
    // SAFETY: the child has a copy of everything, the stack included.
    let id = unsafe { arch::call(__NR_clone, [SIGCHLD as usize, 0, 0, 0, 0, 0]) };
    match succeeded("fork", id) {
        0 => exit(work()),
        id => Child(id),
    }
}

/// A child process.
pub struct Child(usize);

impl Child {
    /// Waits for its end, and returns its status as wait4(2) does.
    pub fn wait(self) -> i32 {
        let mut status = 0i32;
        let at = (&raw mut status).expose_provenance();
        // SAFETY: the call writes the status.
        succeeded("wait4", unsafe { arch::call(__NR_wait4, [self.0, at, 0, 0, 0, 0]) });
        status
    }
}

/// A file in memory.
pub struct File(pub usize);

impl File {
    pub fn new(len: usize) -> Self {
        let name = c"file".as_ptr().expose_provenance();
        // SAFETY: the call reads the name.
        let file = unsafe { arch::call(__NR_memfd_create, [name, 0, 0, 0, 0, 0]) };
        let file = Self(succeeded("memfd_create", file));
        file.set_len(len);
        file
    }

    pub fn set_len(&self, len: usize) {
        // SAFETY: pages of mappings go, which are accessed by probes alone.
        let done = unsafe { arch::call(__NR_ftruncate, [self.0, len, 0, 0, 0, 0]) };
        succeeded("ftruncate", done);
    }

    /// Returns the word there.
    pub fn read(&self, offset: usize) -> u64 {
        let mut word = 0u64;
        let at = (&raw mut word).expose_provenance();
        // SAFETY: the call writes the word.
        let len = unsafe { arch::call(__NR_pread64, [self.0, at, 8, offset, 0, 0]) };
        assert_eq!(len, 8, "pread64");
        word
    }

    /// Sets the word there.
    pub fn write(&self, offset: usize, word: u64) {
        let at = (&raw const word).expose_provenance();
        // SAFETY: the call reads the word.
        let len = unsafe { arch::call(__NR_pwrite64, [self.0, at, 8, offset, 0, 0]) };
        assert_eq!(len, 8, "pwrite64");
    }
}
