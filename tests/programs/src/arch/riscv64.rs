//! RISC-V.

use core::arch::{asm, global_asm};

use linux_raw_sys::general::SIGSEGV;

#[allow(dead_code, reason = "the kernel has a use for all of it")]
#[path = "../../../kernel/src/arch/riscv64/probe.rs"]
pub mod probe;

/// In `struct ucontext`: the first of `uc_mcontext`'s registers.
pub const INSTRUCTION: usize = 176;

/// How an access ends to an address that [no page can have](super::IMPOSSIBLE): signal, code and
/// address. It is as of memory that is not mapped.
pub const IMPOSSIBLE_ENDS: (u32, i32, usize) = (SIGSEGV, 1, super::IMPOSSIBLE);

global_asm!(
    r#"
    .text
    .global _start, start_thread
_start:
    mv a0, sp
    li ra, 0
    call begin
start_thread:                           # a0: flags, a1: the new stack
    li a7, 220                          # clone
    li a2, 0
    li a3, 0
    li a4, 0
    ecall
    beqz a0, 1f
    ret
1:  ld t0, 0(sp)
    ld a0, 8(sp)
    addi sp, sp, 16
    jalr t0
"#
);

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
            "ecall",
            in("a7") number as usize, inlateout("a0") a => answer,
            in("a1") b, in("a2") c, in("a3") d, in("a4") e, in("a5") f, options(nostack),
        );
    }
    answer
}
