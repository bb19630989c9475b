//! The way from QEMU's PVH entry (32 bits, paging off) to `kernel_main` (64 bits, upper
//! half). The second processor, which [`super::second`] sends here, takes the same way.
//!
//! The entry code lies at its physical address (section `.boot`). It needs page tables that it can
//! address with 32 bits (`.bootbss`), but no stack. It builds these tables of 2 MiB pages:
//!
//! | PML4 slot | virtual             | physical     | lives                                   |
//! |----------:|---------------------|--------------|-----------------------------------------|
//! | 0         | 0                   | first 4 GiB  | until the kernel has its own           |
//! | 256       | direct map          | first 4 GiB  | for ever: later roots point to it       |
//! | 511       | the kernel's image  | first 1 GiB  | until the kernel has its own           |

core::arch::global_asm!(
    r#"
    // An ELF note tells QEMU where to enter: type 18, XEN_ELFNOTE_PHYS32_ENTRY. QEMU reads 8 bytes.
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry

    .section .boot, "awx"
    .code32
    .global pvh_entry
pvh_entry:                              // ebx: physical address of the start info
    cli
    cld

    mov edi, offset boot_pd             // 4 GiB in 2 MiB pages: present, writable, large
    mov eax, 0x83
    mov ecx, 2048
1:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 1b

    mov edi, offset boot_pdpt           // its four page directories
    mov eax, offset boot_pd
    or eax, 3
    mov ecx, 4
2:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 2b

    mov eax, offset boot_pd             // the image: the last but one GiB of the address space
    or eax, 3
    mov [boot_pdpt_high + 510 * 8], eax

    mov eax, offset boot_pdpt
    or eax, 3
    mov [boot_pml4], eax
    mov [boot_pml4 + 256 * 8], eax
    mov eax, offset boot_pdpt_high
    or eax, 3
    mov [boot_pml4 + 511 * 8], eax
    xor esi, esi

    .global boot_enter_long
boot_enter_long:                        // esi: number of the processor; ebx: its argument
    mov eax, offset boot_pml4
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620                       // PAE, OSFXSR, OSXMMEXCPT: precompiled core uses SSE
    mov cr4, eax
    mov ecx, 0xc0000080                 // EFER
    rdmsr
    or eax, 0x900                       // LME, NXE: no-execute is on
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb                 // not EM
    or eax, 0x80010002                  // PG, WP: write protection holds for the kernel too, MP
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    .byte 0xea                          // jmp 8:boot_long_mode
    .long boot_long_mode
    .word 8

    .code64
boot_long_mode:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    xor ebp, ebp
    test esi, esi
    jnz 3f
    mov edi, ebx                        // first argument: the start info
    movabs rsp, offset kernel_stack_top
    movabs rax, offset kernel_main
    call rax
    ud2
3:  movabs rsp, offset second_stack_top
    movabs rax, offset second_main
    call rax
    ud2

    .align 8
    .global boot_gdt
boot_gdt:                               // 64-bit code, data, 32-bit code
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00cf9a000000ffff
boot_gdt_pointer:
    .word 31
    .long boot_gdt

    .section .bootbss, "aw", @nobits
    .align 4096
    .global boot_pml4, boot_pdpt
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4 * 4096

    .section .bss.stack, "aw", @nobits
    .align 4096
    .skip 512 * 1024
kernel_stack_top:
    .skip 512 * 1024
second_stack_top:
    .text
"#
);

/// Returns the physical address of the table of the direct map (slot 256 of any root).
pub fn direct_map_table() -> u64 {
    unsafe extern "C" {
        static boot_pdpt: u8;
    }
    // The symbol is linked at its physical address.
    (&raw const boot_pdpt).addr() as u64
}
