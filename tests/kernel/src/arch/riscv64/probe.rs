//! The instructions of probes: see [`crate::probe`].

core::arch::global_asm!(
    r#"
    .text
    .global probe_load, probe_store, probe_fetch, probe_refused, probe_fetch_refused
probe_load:                             # a0: address; result in a0, refusal in a1
    ld a0, 0(a0)
    li a1, 0
    ret
probe_store:                            # a0: address, a1: value
    sd a1, 0(a0)
    li a1, 0
    ret
probe_fetch:                            # a0: address of a RET
    addi sp, sp, -16
    sd ra, 8(sp)
    jalr a0
    ld ra, 8(sp)
    addi sp, sp, 16
    li a1, 0
    ret
probe_fetch_refused:
    ld ra, 8(sp)
    addi sp, sp, 16
probe_refused:
    li a0, 0
    li a1, 1
    ret
"#
);

/// The last word of a frame that can be executed: zeros, and RET in the bytes with the highest
/// addresses.
pub const RET: u64 = 0x0000_8067 << 32;
/// The offset of it in the word.
pub const RET_OFFSET: u64 = 4;

/// C.EBREAK instructions.
pub const TRAPS: u64 = 0x9002_9002_9002_9002;
