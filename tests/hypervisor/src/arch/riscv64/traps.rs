//! The hypervisor's own traps: interrupts by the other hart. Guests' are exits (see `vcpu`).

use core::arch::{asm, global_asm};

use kvma_machine::{interrupts, shootdown};

use super::vcpu;

global_asm!(
    r#"
    .text
    .align 2
    .global trap_entry
trap_entry:
    addi sp, sp, -128
    .irp n, 0,1,2,3,4,5,6
    sd t\n, 8*\n(sp)
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    sd a\n, 56+8*\n(sp)
    .endr
    sd ra, 120(sp)
    csrr a0, scause
    csrr a1, stval
    csrr a2, sepc
    call trap_in_rust
    .irp n, 0,1,2,3,4,5,6
    ld t\n, 8*\n(sp)
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    ld a\n, 56+8*\n(sp)
    .endr
    ld ra, 120(sp)
    addi sp, sp, 128
    sret
"#
);

/// Sets this hart's traps up, and turns interrupts on.
pub fn init() {
    unsafe extern "C" {
        fn trap_entry();
    }
    // SAFETY: the code above saves what Rust changes and restores it.
    unsafe { asm!("csrw stvec, {}", in(reg) trap_entry as *const () as usize, options(nostack)) };
    interrupts::init();
    interrupts::enable();
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(cause: u64, value: u64, at: u64) {
    const SOFTWARE_INTERRUPT: u64 = 1 << 63 | 1;
    if cause != SOFTWARE_INTERRUPT {
        panic!("trap {cause:#x} at {at:#x}, value {value:#x}");
    }
    interrupts::end_call();
    shootdown::serve(vcpu::flush);
}
