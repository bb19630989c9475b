//! The instructions of probes: see [`crate::probe`].

core::arch::global_asm!(
    r#"
    .text
    .global probe_load, probe_store, probe_fetch, probe_refused, probe_fetch_refused
probe_load:                             // rdi: address; result in rax, refusal in rdx
    mov rax, [rdi]
    xor edx, edx
    ret
probe_store:                            // rdi: address, rsi: value
    mov [rdi], rsi
    xor edx, edx
    ret
probe_fetch:                            // rdi: address of a RET
    call rdi
    xor edx, edx
    ret
probe_fetch_refused:                    // the call has pushed its return address
    add rsp, 8
probe_refused:
    xor eax, eax
    mov edx, 1
    ret
"#
);

/// The last word of a frame that can be executed: zeros, and RET in the byte with the highest
/// address.
pub const RET: u64 = 0xc3 << 56;
/// The offset of that byte in the word.
pub const RET_OFFSET: u64 = 7;

/// INT3 instructions.
pub const TRAPS: u64 = 0xcccc_cccc_cccc_cccc;
