//! The way from QEMU's reset code (translation off) to `kernel_main` (upper half), and
//! `second_main` on the second processor; and the handler that fills the TLB.
//!
//! The entry code lies at its physical address (section `.boot`). Two windows, for which the
//! processor needs no tables, cover all of memory: one for devices, and the direct map. So the
//! entry code builds page tables of the image alone, in leaves of 2 MiB. They live until the kernel
//! has its own.
//!
//! The processor walks no tables. Where its TLB has nothing, it turns translation off and runs the
//! handler here, which enters two pages that lie side by side: those that the tables have, or else
//! entries that allow nothing. A leaf of 2 MiB becomes two pages of 1 MiB. The handler reads tables
//! by plain loads: LDDIR and LDPTE of older versions of QEMU lose an entry's upper bits, which
//! forbid execution.

core::arch::global_asm!(
    r#"
    .section .boot, "awx"
    .global boot_entry
boot_entry:                             # a1: the command line
    csrrd $t0, 0x20                     # CPUID
    andi $t0, $t0, 0x1ff
    bnez $t0, 9f
    la.pcrel $t1, boot_command
    st.d $a1, $t1, 0
    la.pcrel $t1, boot_image            # 1 GiB in leaves of 2 MiB
    li.d $t2, 0x53                      # large, cached, dirty, valid
    li.d $t3, 512
    lu12i.w $t4, 0x200
1:  st.d $t2, $t1, 0
    addi.d $t1, $t1, 8
    add.d $t2, $t2, $t4
    addi.d $t3, $t3, -1
    bnez $t3, 1b
    la.pcrel $t1, boot_high             # it is the last but one GiB of the address space
    la.pcrel $t2, boot_image
    ori $t2, $t2, 1
    stptr.d $t2, $t1, 510 * 8
    la.pcrel $t2, boot_root
    ori $t1, $t1, 1
    stptr.d $t1, $t2, 511 * 8
    li.d $t0, 0
    b 2f
9:  idle 0                              # further processors
    b 9b

boot_second:
    csrrd $t0, 0x20
    andi $t0, $t0, 0x1ff
    li.d $t1, {cpus}
    bgeu $t0, $t1, 9b
2:  csrwr $zero, 0x4                    # ECFG: no interrupts, one entry point for all exceptions
    li.d $t1, 3                         # EUEN: programs have floating point and LSX
    csrwr $t1, 0x2
    li.d $t1, {device_map} + 0x01       # DMW0: for the kernel, strongly ordered, not cached
    csrwr $t1, 0x180
    li.d $t1, {direct_map} + 0x11       # DMW1: for the kernel, coherent and cached
    csrwr $t1, 0x181
    li.d $t1, 12                        # STLBPS: the large part of the TLB has pages of 4 KiB
    csrwr $t1, 0x1e
    csrwr $zero, 0x18                   # ASID
    csrwr $zero, 0x30                   # SAVE0: see the user's `traps`
    la.pcrel $t1, fill_tlb              # TLBRENTRY
    csrwr $t1, 0x88
    la.pcrel $t1, boot_root
    move $t2, $t1
    csrwr $t1, 0x19                     # PGDL
    csrwr $t2, 0x1a                     # PGDH
    invtlb 0, $zero, $zero
    la.pcrel $t1, boot_targets
    slli.d $t0, $t0, 4
    add.d $t1, $t1, $t0
    ld.d $sp, $t1, 0
    ld.d $t1, $t1, 8
    li.d $a0, {device_tree}
    la.pcrel $t0, 3f                    # go on in the direct map, where this is with translation
    li.d $t2, {direct_map}
    or $t0, $t0, $t2
    jr $t0
3:  li.d $t0, 0xb0                      # CRMD: translation on, cached without it
    csrwr $t0, 0x0
    jr $t1

    .p2align 12
fill_tlb:
    csrwr $t0, 0x8b                     # TLBRSAVE
    csrwr $t1, 0x31                     # SAVE1
    csrwr $t2, 0x32                     # SAVE2
    csrrd $t0, 0x19                     # PGDL, which PGDH equals
    csrrd $t1, 0x89                     # TLBRBADV
    bstrpick.d $t2, $t1, 47, 39
    alsl.d $t0, $t2, $t0, 3
    ld.d $t0, $t0, 0
    beqz $t0, 1f
    bstrins.d $t0, $zero, 11, 0
    bstrpick.d $t2, $t1, 38, 30
    alsl.d $t0, $t2, $t0, 3
    ld.d $t0, $t0, 0
    beqz $t0, 1f
    bstrins.d $t0, $zero, 11, 0
    bstrpick.d $t2, $t1, 29, 21
    alsl.d $t0, $t2, $t0, 3
    ld.d $t0, $t0, 0
    andi $t2, $t0, 0x40                 # it is a leaf
    bnez $t2, 3f
    beqz $t0, 1f
    bstrins.d $t0, $zero, 11, 0
    bstrpick.d $t2, $t1, 20, 13         # a pair of pages
    alsl.d $t0, $t2, $t0, 4
    ld.d $t1, $t0, 8
    ld.d $t0, $t0, 0
    b 2f
1:  move $t0, $zero
    move $t1, $zero
2:  li.d $t2, 12
    b 4f
3:  bstrins.d $t0, $zero, 6, 6
    lu12i.w $t1, 0x100
    add.d $t1, $t1, $t0
    li.d $t2, 20
4:  csrwr $t0, 0x8c                     # TLBRELO0
    csrwr $t1, 0x8d                     # TLBRELO1
    csrrd $t0, 0x8e                     # TLBREHI: the size of the pages
    bstrins.d $t0, $t2, 5, 0
    csrwr $t0, 0x8e
    tlbfill
    csrrd $t2, 0x32
    csrrd $t1, 0x31
    csrrd $t0, 0x8b
    ertn

    .p2align 3
boot_targets:
    .quad kernel_stack_top, kernel_main
    .quad second_stack_top, second_main
boot_command:
    .quad 0

    .section .bootbss, "aw", @nobits
    .p2align 12
boot_root:  .skip 4096
boot_high:  .skip 4096
boot_image: .skip 4096

    .section .rodata.boot, "a"           # for code that is too far away to name them
    .p2align 3
    .global boot_second_at, boot_command_at
boot_second_at: .quad boot_second
boot_command_at: .quad boot_command

    .section .bss.stack, "aw", @nobits
    .p2align 12
    .skip 512 * 1024
kernel_stack_top:
    .skip 512 * 1024
second_stack_top:
    .text
"#,
    cpus = const crate::CPUS,
    device_map = const crate::memory_map::DEVICE_MAP,
    direct_map = const crate::memory_map::DIRECT_MAP,
    device_tree = const crate::memory_map::DEVICE_TREE,
);

unsafe extern "C" {
    static boot_second_at: u64;
    static boot_command_at: u64;
}

/// Returns the physical address at which the second processor begins.
pub fn second() -> u64 {
    // SAFETY: a constant.
    unsafe { boot_second_at }
}

/// Returns the command line, which QEMU leaves in memory and passes on in a register.
pub fn command_line() -> &'static str {
    // SAFETY: the entry code has stored the loader's pointer. Nothing else uses that memory, below
    // the device tree, and it holds a string that ends with a zero.
    let line = unsafe {
        let pointer = crate::direct::<u64>(boot_command_at).read();
        core::ffi::CStr::from_ptr(crate::direct(pointer))
    };
    line.to_str().unwrap_or_default()
}
