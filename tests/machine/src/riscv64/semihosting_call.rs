//! The way to the debugger.

use core::arch::asm;

/// Makes a semihosting call.
///
/// # Safety
///
/// `argument` must be what the operation expects.
pub unsafe fn call(operation: usize, argument: usize) {
    // SAFETY: the three instructions, in one page and uncompressed, are a call. The rest is the
    // caller's promise.
    unsafe {
        asm!(
            ".option push",
            ".option norvc",
            ".balign 16",
            "slli zero, zero, 0x1f",
            "ebreak",
            "srai zero, zero, 7",
            ".option pop",
            inout("a0") operation => _,
            in("a1") argument,
            options(nostack),
        );
    }
}
