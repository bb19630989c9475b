//! LoongArch.

use core::arch::{asm, global_asm};

use linux_raw_sys::general::SIGBUS;

#[allow(dead_code, reason = "the kernel has a use for all of it")]
#[path = "../../../kernel/src/arch/loongarch64/probe.rs"]
pub mod probe;

/// In `struct ucontext`: the first of `uc_mcontext`'s registers.
pub const INSTRUCTION: usize = 176;

/// How an access ends to an address that [no page can have](super::IMPOSSIBLE): signal, code and
/// address. It is `do_ade` of arch/loongarch/kernel/traps.c.
pub const IMPOSSIBLE_ENDS: (u32, i32, usize) = (SIGBUS, 2, super::IMPOSSIBLE);

global_asm!(
    r#"
    .text
    .global _start, start_thread
_start:
    move $a0, $sp
    move $ra, $zero
    bl begin
start_thread:                           # a0: flags, a1: the new stack
    li.w $a7, 220                       # clone
    move $a2, $zero
    move $a3, $zero
    move $a4, $zero
    syscall 0
    beqz $a0, 1f
    ret
1:  ld.d $t0, $sp, 0
    ld.d $a0, $sp, 8
    addi.d $sp, $sp, 16
    jirl $ra, $t0, 0
"#
);

/// Makes a system call.
///
/// # Safety
///
/// What the call does with this program's memory must be right for it.
pub unsafe fn call(number: u32, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the registers are those of system calls, which may change the temporary ones; for the
    // rest, the caller's promise.
    unsafe {
        asm!(
            "syscall 0",
            in("$a7") number as usize, inlateout("$a0") a => answer,
            in("$a1") b, in("$a2") c, in("$a3") d, in("$a4") e, in("$a5") f,
            lateout("$t0") _, lateout("$t1") _, lateout("$t2") _, lateout("$t3") _,
            lateout("$t4") _, lateout("$t5") _, lateout("$t6") _, lateout("$t7") _,
            lateout("$t8") _, options(nostack),
        );
    }
    answer
}
