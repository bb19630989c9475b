//! The guests' programs: see [`crate::program`]. Arguments come in `x1` to `x4`; the result goes
//! to `x0`, and `x5` tells if the access was refused.

use crate::program::report::{REFUSED, ROUNDS, SEEN, STOP};

core::arch::global_asm!(
    r#"
    .section .rodata.guest, "a"
    .balign 4
    .global guest_begin, guest_end, guest_load, guest_store, guest_fill, guest_sum, guest_watch
    .global guest_watch_refused, guest_sweep, guest_meet, guest_refused
guest_begin:
guest_load:
    ldr w0, [x1]
    b guest_made
guest_store:
    str w2, [x1]
    mov w0, #0
    b guest_made
guest_fill:
    str w3, [x1]
    add x1, x1, #4096
    add w3, w3, #1
    subs w2, w2, #1
    b.ne guest_fill
    b guest_made
guest_sum:
    mov w0, #0
1:  ldr w6, [x1]
    add w0, w0, w6
    add x1, x1, #4096
    subs w2, w2, #1
    b.ne 1b
    b guest_made
guest_watch:
    ldr w6, [x1]
1:  str w6, [x2, #{seen}]
    ldr w7, [x2, #{rounds}]
    add w7, w7, #1
    dmb sy
    str w7, [x2, #{rounds}]
    ldr w8, [x2, #{stop}]
    cbz w8, guest_watch
    b guest_made
guest_watch_refused:
    ldr w7, [x2, #{refused}]
    add w7, w7, #1
    str w7, [x2, #{refused}]
    mov w6, #-1                         // NOTHING
    b 1b
guest_sweep:
    ldr w6, [x2, #{rounds}]
    add w6, w6, #1
    mov x7, x1
    mov w8, w3
2:  str w6, [x7]
    add x7, x7, #4096
    subs w8, w8, #1
    b.ne 2b
    dmb sy
    str w6, [x2, #{rounds}]
    ldr w8, [x2, #{stop}]
    cbz w8, guest_sweep
    b guest_made
guest_meet:
    mov w0, #0
1:  add w0, w0, #1
    str w0, [x1]
2:  ldr w6, [x2]
    cmp w6, w0
    b.lt 2b
    cmp w0, w3
    b.ne 1b
guest_made:
    mov w5, #0
    hvc #0
guest_refused:
    mov w5, #1
    hvc #0
guest_end:
    .text
"#,
    seen = const SEEN,
    rounds = const ROUNDS,
    refused = const REFUSED,
    stop = const STOP,
);
