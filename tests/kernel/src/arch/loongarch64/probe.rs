//! The instructions of probes: see [`crate::probe`].

core::arch::global_asm!(
    r#"
    .text
    .global probe_load, probe_store, probe_fetch, probe_refused, probe_fetch_refused
probe_load:                             # a0: address; result in a0, refusal in a1
    ld.d $a0, $a0, 0
    move $a1, $zero
    ret
probe_store:                            # a0: address, a1: value
    st.d $a1, $a0, 0
    move $a1, $zero
    ret
probe_fetch:                            # a0: address of a RET
    addi.d $sp, $sp, -16
    st.d $ra, $sp, 8
    jirl $ra, $a0, 0
    ld.d $ra, $sp, 8
    addi.d $sp, $sp, 16
    move $a1, $zero
    ret
probe_fetch_refused:
    ld.d $ra, $sp, 8
    addi.d $sp, $sp, 16
probe_refused:
    move $a0, $zero
    li.w $a1, 1
    ret
"#
);

/// The last word of a frame that can be executed: zeros, and RET in the bytes with the highest
/// addresses.
pub const RET: u64 = 0x4c00_0020 << 32;
/// The offset of it in the word.
pub const RET_OFFSET: u64 = 4;

/// BREAK instructions.
pub const TRAPS: u64 = 0x002a_0000_002a_0000;
