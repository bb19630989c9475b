//! The stacks of threads in the kernel, and the switch from one to another.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use super::user::{RETURNS_TO, SWITCHED, UserContext};

const STACK: usize = 32 * 1024;
/// At the lowest end of each stack, where an overflow would change it first.
const CANARY: u128 = 0x6b76_6d61_7374_6163_6b76_6d61_7374_6163;

/// A thread's stack in the kernel. Its memory is made of numbers of 16 bytes, and so aligned.
pub struct KernelStack(Box<[UnsafeCell<u128>]>);

// SAFETY: only the thread itself uses the memory, on one processor at a time; `check` reads a word
// that is never written again.
unsafe impl Send for KernelStack {}
// SAFETY: as above.
unsafe impl Sync for KernelStack {}

static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of stacks that there are.
pub fn in_use() -> usize {
    IN_USE.load(Relaxed)
}

unsafe extern "C" {
    fn leave_to_user();
    fn switch_stacks(from: *mut u64, to: u64);
}

impl KernelStack {
    /// Makes a stack. `None` without memory.
    pub fn new() -> Option<Self> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(STACK / 16).ok()?;
        memory.push(UnsafeCell::new(CANARY));
        memory.resize_with(STACK / 16, || UnsafeCell::new(0));
        IN_USE.fetch_add(1, Relaxed);
        Some(Self(memory.into_boxed_slice()))
    }

    /// Returns the address one past the highest byte.
    #[allow(dead_code, reason = "not every architecture has to know")]
    pub fn top(&self) -> usize {
        self.0.as_ptr().addr() + STACK
    }

    /// Puts registers at the top, so that the first switch to this stack enters user mode with
    /// them. Returns the stack pointer to switch to.
    pub fn prepare(&mut self, context: &UserContext) -> u64 {
        let words = self.0.as_mut_ptr().cast::<u64>();
        let at = (STACK - size_of::<UserContext>()) / 8;
        // SAFETY: the context ends at the top of the stack, which is aligned like it. Below lie the
        // words that `switch_stacks` takes, among them the address to which it returns.
        unsafe {
            words.add(at).cast::<UserContext>().write(context.duplicate());
            let switched = words.add(at - SWITCHED);
            switched.add(RETURNS_TO).write(leave_to_user as *const () as u64);
            switched.addr() as u64
        }
    }

    /// Checks that the stack has not overflown.
    ///
    /// # Panics
    ///
    /// If it has.
    pub fn check(&self) {
        // SAFETY: nothing writes to the lowest word.
        let word = unsafe { self.0[0].get().read_volatile() };
        assert!(word == CANARY, "a kernel stack has overflown");
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Relaxed);
    }
}

/// Switches to another stack, whose pointer is `to`. The pointer of this one goes to `from`.
///
/// # Safety
///
/// `to` must come from [`KernelStack::prepare`] or an earlier switch, and be switched to once. The
/// stack that is left must stay.
pub unsafe fn switch(from: &AtomicU64, to: u64) {
    // SAFETY: the caller's promise.
    unsafe { switch_stacks(from.as_ptr(), to) };
}
