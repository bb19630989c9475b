//! The hypervisor's traps: interrupts by the other processor, and the way out of guests, which
//! `vcpu` has the rest of.

use core::arch::{asm, global_asm};

use kvma_machine::{gic, interrupts, shootdown};

use super::vcpu;

global_asm!(
    r#"
    .text
    .macro OWN kind
    .balign 128
    sub sp, sp, #192
    stp x0, x1, [sp]
    mov x0, #\kind
    b trap_own
    .endm
    .macro GUEST kind
    .balign 128
    sub sp, sp, #16
    str x0, [sp]
    mov x0, #\kind
    b vcpu_exit
    .endm
    .balign 2048
trap_vectors:
    OWN 2
    OWN 2
    OWN 2
    OWN 2
    OWN 0
    OWN 1
    OWN 2
    OWN 2
    GUEST 0
    GUEST 1
    GUEST 2
    GUEST 2
    OWN 2
    OWN 2
    OWN 2
    OWN 2
    .global trap_vectors

trap_own:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x30, [sp, #144]
    mrs x2, elr_el1
    mrs x3, spsr_el1
    stp x2, x3, [sp, #160]
    mrs x1, esr_el1
    mrs x3, far_el1
    bl trap_in_rust
    ldp x2, x3, [sp, #160]
    msr elr_el1, x2
    msr spsr_el1, x3
    ldp x18, x30, [sp, #144]
    ldp x16, x17, [sp, #128]
    ldp x14, x15, [sp, #112]
    ldp x12, x13, [sp, #96]
    ldp x10, x11, [sp, #80]
    ldp x8, x9, [sp, #64]
    ldp x6, x7, [sp, #48]
    ldp x4, x5, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp]
    add sp, sp, #192
    eret
"#
);

/// Sets this processor's traps up, and turns interrupts on.
pub fn init() {
    unsafe extern "C" {
        fn trap_vectors();
    }
    // SAFETY: the code above saves what Rust changes and restores it.
    unsafe {
        let vectors = trap_vectors as *const () as usize;
        asm!("msr vbar_el1, {}", "isb", in(reg) vectors, options(nostack));
    }
    gic::init_processor();
    interrupts::enable();
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(kind: u64, syndrome: u64, at: u64, address: u64) {
    const INTERRUPT: u64 = 1;
    if kind != INTERRUPT {
        panic!("trap {kind}, syndrome {syndrome:#x}, at {at:#x}, address {address:#x}");
    }
    let taken = gic::acknowledge();
    if gic::number(taken) == gic::CALL {
        shootdown::serve(vcpu::flush);
        gic::end(taken);
    }
}
