//! The frame on the stack of a signal's handler: `struct rt_sigframe` of Linux' x86-64
//! (arch/x86/include/asm/sigframe.h), without extended states of the vector unit.

use kvma::Errno;

use super::traps::{USER_CODE, USER_DATA};
use super::user::{Register, UserContext};
use crate::user::bytes::{Bytes, u32_at, u64_at};
use crate::user::memory::Memory;
use crate::user::signals::{Action, AlternateStack, INFO_LEN, Info, SIGBUS, SIGSEGV, Set, siginfo};

/// Programs use so many bytes below their stack pointer (System V ABI, section 3.2.2).
const RED_ZONE: u64 = 128;
const VECTORS: u64 = 512;
/// `struct ucontext`: flags, link and stack; then the registers, the mask.
const REGISTERS: usize = 40;
const MASK: usize = REGISTERS + 256;
const UCONTEXT: usize = MASK + 8;
/// `UC_SIGCONTEXT_SS`, `UC_STRICT_RESTORE_SS`.
const FLAGS: u64 = 6;

/// The registers in the order of `struct sigcontext`, up to the instruction pointer.
const ORDER: [Register; 15] = [
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
    Register::Rdi,
    Register::Rsi,
    Register::Rbp,
    Register::Rbx,
    Register::Rdx,
    Register::Rax,
    Register::Rcx,
];
/// Offsets in `struct sigcontext` of what follows.
const STACK_POINTER: usize = 15 * 8;
const INSTRUCTION: usize = 16 * 8;
const CPU_FLAGS: usize = 17 * 8;
const VECTORS_AT: usize = 23 * 8;

/// Returns where a frame may begin on the stack that is in use.
pub fn below(stack_pointer: u64) -> u64 {
    stack_pointer.wrapping_sub(RED_ZONE)
}

/// Puts a frame below `top`, and makes the context that of the handler.
pub fn push(
    memory: &Memory,
    context: &mut UserContext,
    action: &Action,
    info: &Info,
    top: u64,
    mask: Set,
    stack: AlternateStack,
) -> Result<(), Errno> {
    let vectors = top.checked_sub(VECTORS).ok_or(Errno::EFAULT)? & !63;
    let len = (8 + UCONTEXT + INFO_LEN) as u64;
    // As after a call: 8 bytes below a multiple of 16.
    let at = (vectors.checked_sub(len).ok_or(Errno::EFAULT)? & !15).wrapping_sub(8);
    let frame = context.frame();
    let fault = if matches!(info.signal, SIGSEGV | SIGBUS) { info.origin } else { 0 };
    let mut bytes = Bytes::new().u64(action.restorer);
    bytes = bytes.u64(FLAGS).u64(0);
    bytes = bytes.u64(stack.start).u32(stack.flags).u32(0).u64(stack.len);
    for register in ORDER {
        bytes = bytes.u64(frame.registers()[register as usize]);
    }
    bytes = bytes.u64(frame.stack()).u64(frame.instruction).u64(frame.flags());
    bytes = bytes.u16(USER_CODE as u16).u16(0).u16(0).u16(USER_DATA as u16);
    bytes = bytes.u64(frame.error()).u64(frame.vector()).u64(mask.0).u64(fault).u64(vectors);
    bytes = bytes.up_to(8 + MASK).u64(mask.0);
    bytes = bytes.bytes(&siginfo(info));
    memory.write(vectors, context.vectors())?;
    memory.write(at, bytes.as_slice())?;
    let registers = context.frame_mut().registers_mut();
    registers[Register::Rdi as usize] = u64::from(info.signal);
    registers[Register::Rsi as usize] = at + (8 + UCONTEXT) as u64;
    registers[Register::Rdx as usize] = at + 8;
    registers[Register::Rax as usize] = 0;
    let frame = context.frame_mut();
    frame.set_stack(at);
    frame.instruction = action.handler;
    frame.set_flags(0);
    Ok(())
}

/// Takes the frame off the stack of a handler that returns, and makes the context what it says.
/// Returns the mask, and the stack for handlers.
pub fn pop(memory: &Memory, context: &mut UserContext) -> Result<(Set, AlternateStack), Errno> {
    // The handler's return has popped the address of the restorer.
    let bytes = memory.read_vec(context.stack_pointer(), UCONTEXT)?;
    let stack = AlternateStack {
        start: u64_at(&bytes, 16),
        flags: u32_at(&bytes, 24),
        len: u64_at(&bytes, 32),
    };
    let registers = &bytes[REGISTERS..MASK];
    let vectors = u64_at(registers, VECTORS_AT);
    if vectors != 0 {
        let mut saved = [0; VECTORS as usize];
        memory.read(vectors, &mut saved)?;
        context.set_vectors(saved);
    }
    let frame = context.frame_mut();
    for (place, register) in ORDER.into_iter().enumerate() {
        frame.registers_mut()[register as usize] = u64_at(registers, place * 8);
    }
    frame.set_stack(u64_at(registers, STACK_POINTER));
    frame.instruction = u64_at(registers, INSTRUCTION);
    frame.set_flags(u64_at(registers, CPU_FLAGS));
    Ok((Set(u64_at(&bytes, MASK)), stack))
}
