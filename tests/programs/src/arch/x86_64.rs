//! x86-64.

use core::arch::{asm, global_asm};

use linux_raw_sys::general::SIGSEGV;

#[allow(dead_code, reason = "the kernel has a use for all of it")]
#[path = "../../../kernel/src/arch/x86_64/probe.rs"]
pub mod probe;
/// For `core` of the host's triple, which is made to be linked with a C library.
#[path = "../../../machine/src/x86_64/runtime.rs"]
mod runtime;

/// In `struct ucontext`: `uc_mcontext.rip`.
pub const INSTRUCTION: usize = 40 + 16 * 8;

/// How an access ends to an address that [no page can have](super::IMPOSSIBLE): signal, code and
/// address. It is a general protection fault, of which the processor says no address.
pub const IMPOSSIBLE_ENDS: (u32, i32, usize) = (SIGSEGV, 0x80, 0);

global_asm!(
    r#"
    .text
    .global _start, start_thread, handler_returns
_start:
    mov rdi, rsp
    xor ebp, ebp
    call begin
start_thread:                           // rdi: flags, rsi: the new stack
    mov eax, 56                         // clone
    xor edx, edx
    xor r10d, r10d
    xor r8d, r8d
    syscall
    test rax, rax
    jz 1f
    ret
1:  pop rax
    pop rdi
    xor ebp, ebp
    call rax
handler_returns:
    mov eax, 15                         // rt_sigreturn
    syscall
"#
);

/// Returns the address to which handlers return: on this architecture, the program has to say it.
pub fn return_from_handler() -> usize {
    unsafe extern "C" {
        fn handler_returns();
    }
    handler_returns as *const () as usize
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
            "syscall",
            inlateout("rax") number as usize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack),
        );
    }
    answer
}
