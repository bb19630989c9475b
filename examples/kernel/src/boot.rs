//! The machine, before any of it is Rust: from QEMU's entry (PVH: 32 bits, paging off) to
//! [`crate::kernel_main`] in 64 bits, and the four functions of C that `core` calls.
//!
//! The lowest 4 GiB are mapped one to one, in pages of 2 MiB. They take up slot 0 of the top page
//! table, and the kernel lives there; the program has the slots from 1 to 255.

core::arch::global_asm!(
    r#"
    // An ELF note tells QEMU where to enter: type 18, XEN_ELFNOTE_PHYS32_ENTRY.
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry

    .section .text.boot, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    mov edi, offset boot_directories    // 4 GiB in 2 MiB pages: present, writable, large
    mov eax, 0x83
    mov ecx, 2048
1:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 1b
    mov edi, offset boot_pointers
    mov eax, offset boot_directories + 3
    mov ecx, 4
2:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 2b
    mov eax, offset boot_pointers + 3
    mov [boot_root], eax

    mov eax, offset boot_root
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620                       // PAE; OSFXSR, OSXMMEXCPT: precompiled core uses SSE
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 0x900                       // LME; NXE, no-execute
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb                 // not EM
    or eax, 0x80010002                  // PG; WP, read-only holds for the kernel too; MP
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                          // jmp 8:long_mode
    .long long_mode
    .word 8

    .code64
long_mode:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset boot_stack_top
    call kernel_main
    ud2

    .align 8
boot_gdt:
    .quad 0, 0x00af9a000000ffff
boot_gdt_pointer:
    .word 15
    .long boot_gdt

    .section .bss.boot, "aw", @nobits
    .align 4096
boot_root:        .skip 4096
boot_pointers:    .skip 4096
boot_directories: .skip 4 * 4096
    .skip 64 * 1024
boot_stack_top:

    // In assembly, because a memcpy in Rust may be compiled into a call of memcpy.
    .text
    .global memcpy, memmove, memset, memcmp, bcmp, strlen, rust_eh_personality, _Unwind_Resume
memmove:
    mov rax, rdi
    sub rax, rsi
    cmp rax, rdx
    jb 3f                               // the destination begins inside the source
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
3:  mov rax, rdi
    mov rcx, rdx
    lea rdi, [rdi + rcx - 1]
    lea rsi, [rsi + rcx - 1]
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
4:  cmp rcx, rdx
    je 5f
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    inc rcx
    sub eax, r8d
    je 4b
    ret
5:  xor eax, eax
    ret
strlen:
    xor eax, eax
6:  cmp byte ptr [rdi + rax], 0
    je 7f
    inc rax
    jmp 6b
7:  ret
rust_eh_personality:                    // panics abort: never called, only named
_Unwind_Resume:
    ud2
"#
);
