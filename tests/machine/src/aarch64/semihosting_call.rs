//! The way to the debugger.

use core::arch::asm;

/// Makes a semihosting call.
///
/// # Safety
///
/// `argument` must be what the operation expects.
pub unsafe fn call(operation: usize, argument: usize) {
    // SAFETY: the instruction is a call. The rest is the caller's promise.
    unsafe {
        asm!("hlt #0xf000", inout("x0") operation => _, in("x1") argument, options(nostack));
    }
}
