//! AArch64.

use core::arch::{asm, global_asm};

use linux_raw_sys::general::SIGSEGV;

#[allow(dead_code, reason = "the kernel has a use for all of it")]
#[path = "../../../kernel/src/arch/aarch64/probe.rs"]
pub mod probe;

/// In `struct ucontext`: `uc_mcontext.pc`, behind the address of a fault, 31 registers and the
/// stack pointer.
pub const INSTRUCTION: usize = 176 + 8 + 31 * 8 + 8;

/// How an access ends to an address that [no page can have](super::IMPOSSIBLE): signal, code and
/// address. It is as of memory that is not mapped.
pub const IMPOSSIBLE_ENDS: (u32, i32, usize) = (SIGSEGV, 1, super::IMPOSSIBLE);

global_asm!(
    r#"
    .text
    .global _start, start_thread
_start:
    mov x0, sp
    mov x29, #0
    mov x30, #0
    bl begin
start_thread:                           // x0: flags, x1: the new stack
    mov x8, #220                        // clone
    mov x2, #0
    mov x3, #0
    mov x4, #0
    svc #0
    cbz x0, 1f
    ret
1:  ldp x1, x0, [sp], #16
    mov x29, #0
    mov x30, #0
    blr x1
"#
);

/// Returns the address to which handlers return: 0, as the kernel knows one.
pub fn return_from_handler() -> usize {
    0
}

/// Makes a system call.
///
/// # Safety
///
/// What the call does with this program's memory must be right for it.
pub unsafe fn call(number: u32, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the registers are those of system calls; for the rest, the caller's promise.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number as usize, inlateout("x0") a => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack),
        );
    }
    answer
}
