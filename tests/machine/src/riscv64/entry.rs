//! The way from QEMU's reset code (machine mode, paging off, every hart) to `kernel_main`
//! (supervisor mode, upper half), and `second_main` on the second hart. Further ones stop.
//!
//! The entry code lies at its physical address (section `.boot`). It builds these page tables of
//! leaves of 1 GiB:
//!
//! | root slot | virtual             | physical     | lives                                    |
//! |----------:|---------------------|--------------|------------------------------------------|
//! | 0         | 0                   | first 4 GiB  | until the kernel has its own            |
//! | 256       | direct map          | first 4 GiB  | for ever: later roots point to it        |
//! | 511       | the kernel's image  | a GiB of RAM | until the kernel has its own            |
//!
//! Machine mode keeps one thing to do: an interrupt that a hart sends to another arrives there, and
//! is passed on to supervisor mode.

core::arch::global_asm!(
    r#"
    .section .boot, "awx"
    .global boot_entry
boot_entry:                             # a1: the device tree
    csrr a0, mhartid
    li t0, {cpus}
    bgeu a0, t0, 9f
    li t0, -1                           # all of memory, with all rights, for the lower modes
    srli t0, t0, 10
    csrw pmpaddr0, t0
    li t0, 0x1f
    csrw pmpcfg0, t0
    li t0, 0xf0ffff                     # exceptions, those of guests too, and supervisor mode's
    csrw medeleg, t0                    # interrupts go to it
    li t0, 0x222
    csrw mideleg, t0
    li t0, 7                            # cycle, time, instret can be read
    csrw mcounteren, t0
    csrw scounteren, t0
    li t0, 1                            # menvcfg.STCE: supervisor mode has a timer of its own
    slli t0, t0, 63
    csrs 0x30a, t0
    la t0, machine_trap
    csrw mtvec, t0
    la t0, machine_scratch
    slli t1, a0, 4
    add t0, t0, t1
    csrw mscratch, t0
    li t0, 8                            # software interrupts of machine mode
    csrw mie, t0
    csrw satp, zero
    li t0, 3 << 11                      # mstatus.MPP: supervisor mode
    csrc mstatus, t0
    li t0, 1 << 11
    csrs mstatus, t0
    la t0, boot_supervisor
    csrw mepc, t0
    mret
9:  wfi
    j 9b

    .align 2
machine_trap:                           # interrupts of machine mode come at any time
    csrrw sp, mscratch, sp
    sd t0, 0(sp)
    sd t1, 8(sp)
    csrr t0, mcause
    bgez t0, 8f
    csrr t0, mhartid
    slli t0, t0, 2
    li t1, {clint}
    add t0, t0, t1
    sw zero, 0(t0)
    li t0, 2
    csrs mip, t0
    ld t0, 0(sp)
    ld t1, 8(sp)
    csrrw sp, mscratch, sp
    mret
8:  li t0, {finisher}                   # an exception of machine mode ends the machine
    li t1, (34 << 16) | 0x3333
    sw t1, 0(t0)
    j 8b

boot_supervisor:                        # a0: number of the hart
    mv tp, a0
    bnez a0, 3f
    la t0, boot_identity                # 4 GiB in leaves of 1 GiB
    la t1, boot_direct
    li t2, 0
    li t3, 4
1:  slli t4, t2, 28
    ori t5, t4, 0xcf                    # valid, all rights, accessed, dirty
    sd t5, 0(t0)
    ori t5, t4, 0xc7                    # no execution
    sd t5, 0(t1)
    addi t0, t0, 8
    addi t1, t1, 8
    addi t2, t2, 1
    bne t2, t3, 1b
    la t0, boot_root
    la t1, boot_identity
    srli t1, t1, 2
    ori t1, t1, 1
    sd t1, 0(t0)
    la t1, boot_direct
    srli t1, t1, 2
    ori t1, t1, 1
    li t2, 256 * 8
    add t2, t0, t2
    sd t1, 0(t2)
    la t1, boot_high
    srli t3, t1, 2
    ori t3, t3, 1
    li t2, 511 * 8
    add t2, t0, t2
    sd t3, 0(t2)
    li t2, {kernel_phys}                # the image: the last but one GiB of the address space
    srli t2, t2, 2
    ori t2, t2, 0xcf
    li t3, 510 * 8
    add t1, t1, t3
    sd t2, 0(t1)
    j 4f
3:  la t0, boot_go
5:  ld t1, 0(t0)
    beqz t1, 5b
    fence
4:  la t0, boot_root
    srli t0, t0, 12
    li t1, 9
    slli t1, t1, 60
    or t0, t0, t1
    sfence.vma
    csrw satp, t0
    sfence.vma
    csrw sscratch, zero
    mv a0, a1
    la t0, boot_targets
    slli t1, tp, 4
    add t0, t0, t1
    ld sp, 0(t0)
    ld t0, 8(t0)
    jr t0

    .align 3
boot_targets:
    .quad kernel_stack_top, kernel_main
    .quad second_stack_top, second_main
boot_go:
    .quad 0
machine_scratch:
    .skip {cpus} * 16

    .section .bootbss, "aw", @nobits
    .align 12
boot_root:     .skip 4096
boot_identity: .skip 4096
boot_direct:   .skip 4096
boot_high:     .skip 4096

    .section .rodata.boot, "a"           # for code that is too far away to name them
    .align 3
    .global boot_direct_at, boot_go_at
boot_direct_at: .quad boot_direct
boot_go_at:     .quad boot_go

    .section .bss.stack, "aw", @nobits
    .align 12
    .skip 512 * 1024
kernel_stack_top:
    .skip 512 * 1024
second_stack_top:
    .text
"#,
    cpus = const crate::CPUS,
    clint = const crate::memory_map::CLINT,
    finisher = const crate::memory_map::FINISHER,
    kernel_phys = const crate::memory_map::KERNEL_PHYS,
);

unsafe extern "C" {
    static boot_direct_at: u64;
    static boot_go_at: u64;
}

/// Returns the physical address of the table of the direct map (slot 256 of any root).
pub fn direct_map_table() -> u64 {
    // SAFETY: a constant.
    unsafe { boot_direct_at }
}

/// Returns the physical address of the word for which the second hart waits.
pub fn go() -> u64 {
    // SAFETY: a constant.
    unsafe { boot_go_at }
}
