//! The way from the loader (exception level 1 or 2, paging off) to `kernel_main` in the upper half.
//! The second processor, which [`super::second`] sends here, takes the same way to `second_main`.
//!
//! Level 2 is made to look like level 1, with two halves and the registers' names of level 1 (the
//! virtualization host extensions, HCR_EL2.E2H and TGE), so that nothing further on has to tell.
//!
//! The entry code lies at its physical address (section `.boot`). It builds these page tables of
//! blocks of 1 GiB:
//!
//! | root slot | virtual             | physical     | lives                                    |
//! |----------:|---------------------|--------------|------------------------------------------|
//! | 0         | 0                   | first 4 GiB  | until the kernel has its own            |
//! | 256       | direct map          | first 4 GiB  | for ever: later roots point to it        |
//! | 511       | the kernel's image  | a GiB of RAM | until the kernel has its own            |

core::arch::global_asm!(
    r#"
    .section .boot, "awx"
    .global boot_entry
boot_entry:
    mov x19, #0
    bl boot_level
    adr x0, boot_identity               // 4 GiB in blocks of 1 GiB; the first one holds devices
    adr x1, boot_direct
    mov x2, #0
    ldr x3, boot_block
    ldr x4, boot_device_block
    ldr x5, boot_never
1:  cmp x2, #0
    csel x6, x4, x3, eq
    orr x6, x6, x2, lsl #30
    str x6, [x0], #8
    orr x6, x6, x5
    str x6, [x1], #8
    add x2, x2, #1
    cmp x2, #4
    b.ne 1b
    adr x0, boot_root
    adr x1, boot_identity
    orr x1, x1, #3
    str x1, [x0]
    adr x1, boot_direct
    orr x1, x1, #3
    str x1, [x0, #256 * 8]
    adr x1, boot_high
    orr x2, x1, #3
    str x2, [x0, #511 * 8]
    mov x2, #0x40000000                 // the image: the last GiB of the address space
    orr x3, x3, x2
    str x3, [x1, #511 * 8]
    b 2f

boot_second:                            // x0: number of the processor
    mov x19, x0
    bl boot_level
2:  msr tpidr_el1, x19
    ldr x0, boot_mair
    msr mair_el1, x0
    ldr x0, boot_tcr
    msr tcr_el1, x0
    adr x0, boot_root
    msr ttbr0_el1, x0
    add x0, x0, #256 * 8
    msr ttbr1_el1, x0
    mov x0, #3 << 20                    // floating point for user mode
    msr cpacr_el1, x0
    mov x0, #3                          // and the clock
    msr cntkctl_el1, x0
    dsb sy
    isb
    tlbi vmalle1
    dsb nsh
    isb
    mrs x0, sctlr_el1
    ldr x1, boot_sctlr_set
    orr x0, x0, x1
    ldr x1, boot_sctlr_clear
    bic x0, x0, x1
    msr sctlr_el1, x0
    isb
    adr x1, boot_targets
    add x1, x1, x19, lsl #4
    ldp x2, x3, [x1]
    mov sp, x2
    mov x29, #0
    ldr x0, boot_device_tree
    br x3

boot_level:
    mrs x0, CurrentEL
    cmp x0, #2 << 2
    b.ne 3f
    ldr x0, boot_hcr
    msr hcr_el2, x0
    isb
3:  ret

    .balign 16
boot_targets:
    .quad kernel_stack_top, kernel_main
    .quad second_stack_top, second_main
boot_device_tree:
    .quad {device_tree}
boot_hcr:                               // E2H, TGE; 64 bits at level 1
    .quad 1 << 34 | 1 << 27 | 1 << 31
boot_block:                             // block, memory, inner shareable, accessed, not for EL0
    .quad 1 | 3 << 8 | 1 << 10 | 1 << 54
boot_device_block:                      // block, device, accessed, never executed
    .quad 1 | 1 << 2 | 1 << 10 | 3 << 53
boot_never:
    .quad 3 << 53
boot_mair:                              // 0: memory, written back; 1: device
    .quad 0xff
boot_tcr:                               // halves of 47 bits, pages of 4 KiB, tables in caches
    .quad 17 | 0x35 << 8 | 17 << 16 | 0xb5 << 24 | 2 << 32
boot_sctlr_set:                         // paging, caches; user mode may clear lines, wait, and sync
    .quad 1 | 1 << 2 | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 23 | 1 << 26
boot_sctlr_clear:                       // no alignment check; what is writable may be executed
    .quad 1 << 1 | 1 << 19

    .section .bootbss, "aw", @nobits
    .balign 4096
boot_root:     .skip 4096
boot_identity: .skip 4096
boot_direct:   .skip 4096
boot_high:     .skip 4096

    .section .rodata.boot, "a"          // for code that is too far away to name them
    .balign 8
    .global boot_direct_at, boot_second_at
boot_direct_at: .quad boot_direct
boot_second_at: .quad boot_second

    .section .bss.stack, "aw", @nobits
    .balign 4096
    .skip 512 * 1024
kernel_stack_top:
    .skip 512 * 1024
second_stack_top:
    .text
"#,
    device_tree = const crate::memory_map::DEVICE_TREE,
);

unsafe extern "C" {
    static boot_direct_at: u64;
    static boot_second_at: u64;
}

/// Returns the physical address of the table of the direct map (slot 256 of any root).
pub fn direct_map_table() -> u64 {
    // SAFETY: a constant.
    unsafe { boot_direct_at }
}

/// Returns the physical address at which the second processor begins.
pub fn second() -> u64 {
    // SAFETY: a constant.
    unsafe { boot_second_at }
}
