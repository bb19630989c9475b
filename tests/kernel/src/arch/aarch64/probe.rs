//! The instructions of probes: see [`crate::probe`].

core::arch::global_asm!(
    r#"
    .text
    .global probe_load, probe_store, probe_fetch, probe_refused, probe_fetch_refused
probe_load:                             // x0: address; result in x0, refusal in x1
    ldr x0, [x0]
    mov x1, #0
    ret
probe_store:                            // x0: address, x1: value
    str x1, [x0]
    mov x1, #0
    ret
probe_fetch:                            // x0: address of a RET
    str x30, [sp, #-16]!
    blr x0
    ldr x30, [sp], #16
    mov x1, #0
    ret
probe_fetch_refused:
    ldr x30, [sp], #16
probe_refused:
    mov x0, #0
    mov x1, #1
    ret
"#
);

/// The last word of a frame that can be executed: zeros, and RET in the bytes with the highest
/// addresses.
pub const RET: u64 = 0xd65f_03c0 << 32;
/// The offset of it in the word.
pub const RET_OFFSET: u64 = 4;

/// BRK instructions.
pub const TRAPS: u64 = 0xd420_0000_d420_0000;
