//! Semihosting: calls to the debugger, which QEMU answers (Arm's semihosting specification, which
//! RISC-V's follows). Its console is the port for the host program.

use super::semihosting_call::call;

/// `SYS_WRITE0`: writes a string that ends with a zero.
const WRITE: usize = 0x04;

/// Writes bytes, which are text: none of them is zero.
pub fn send(bytes: &[u8]) {
    const CHUNK: usize = 255;
    for chunk in bytes.chunks(CHUNK) {
        let mut text = [0u8; CHUNK + 1];
        text[..chunk.len()].copy_from_slice(chunk);
        // SAFETY: the debugger reads the string up to its zero, and changes nothing.
        unsafe { call(WRITE, text.as_ptr().expose_provenance()) };
    }
}
