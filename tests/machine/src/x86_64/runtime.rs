//! The functions of libc and of the unwinder that precompiled `core` for the host triple needs.
//!
//! They are in assembly, because a memcpy written in Rust may be compiled into a call of memcpy.

core::arch::global_asm!(
    r#"
    .text
    .global memcpy, memmove, memset, memcmp, bcmp, strlen, rust_eh_personality, _Unwind_Resume
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
memmove:
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx                        // the destination begins inside the source: copy downwards
    mov rcx, rdx
    jb 1f
    rep movsb
    ret
1:  lea rsi, [rsi + rcx - 1]
    lea rdi, [rdi + rcx - 1]
    std
    rep movsb
    cld
    ret
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
memcmp:
bcmp:
    xor ecx, ecx
2:  cmp rcx, rdx
    je 3f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 2b
    ret
3:  xor eax, eax
    ret
strlen:
    mov rax, rdi
4:  cmp byte ptr [rax], 0
    je 5f
    inc rax
    jmp 4b
5:  sub rax, rdi
    ret
rust_eh_personality:                    // panic = abort: never called, only named
_Unwind_Resume:
    ud2
"#
);
