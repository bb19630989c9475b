//! The guests' programs: see [`crate::program`]. Arguments come in `a1` to `a4`; the result goes
//! to `a0`, and `a5` tells if the access was refused.

use crate::program::report::{NOTHING, REFUSED, ROUNDS, SEEN, STOP};

core::arch::global_asm!(
    r#"
    .section .rodata.guest, "a"
    .align 2
    .option push
    .option norvc
    .global guest_begin, guest_end, guest_load, guest_store, guest_fill, guest_sum, guest_watch
    .global guest_watch_refused, guest_sweep, guest_meet, guest_refused
guest_begin:
guest_load:
    lw a0, 0(a1)
    j guest_made
guest_store:
    sw a2, 0(a1)
    li a0, 0
    j guest_made
guest_fill:
    lui t0, 1
1:  sw a3, 0(a1)
    add a1, a1, t0
    addi a3, a3, 1
    addi a2, a2, -1
    bnez a2, 1b
    j guest_made
guest_sum:
    lui t0, 1
    li a0, 0
1:  lw t1, 0(a1)
    addw a0, a0, t1
    add a1, a1, t0
    addi a2, a2, -1
    bnez a2, 1b
    j guest_made
guest_watch:
    lw t0, 0(a1)
1:  sw t0, {seen}(a2)
    lw t1, {rounds}(a2)
    addi t1, t1, 1
    fence rw, rw
    sw t1, {rounds}(a2)
    lw t2, {stop}(a2)
    beqz t2, guest_watch
    j guest_made
guest_watch_refused:
    lw t1, {refused}(a2)
    addi t1, t1, 1
    sw t1, {refused}(a2)
    li t0, {nothing}
    j 1b
guest_sweep:
    lui t0, 1
1:  lw t1, {rounds}(a2)
    addi t1, t1, 1
    mv t2, a1
    mv t3, a3
2:  sw t1, 0(t2)
    add t2, t2, t0
    addi t3, t3, -1
    bnez t3, 2b
    fence rw, rw
    sw t1, {rounds}(a2)
    lw t2, {stop}(a2)
    beqz t2, 1b
    j guest_made
guest_meet:
    li t0, 0
1:  addi t0, t0, 1
    sw t0, 0(a1)
2:  lw t1, 0(a2)
    blt t1, t0, 2b
    bne t0, a3, 1b
    mv a0, t0
guest_made:
    li a5, 0
    ecall
guest_refused:
    li a5, 1
    ecall
guest_end:
    .option pop
    .text
"#,
    seen = const SEEN,
    rounds = const ROUNDS,
    refused = const REFUSED,
    stop = const STOP,
    nothing = const NOTHING as i32,
);
