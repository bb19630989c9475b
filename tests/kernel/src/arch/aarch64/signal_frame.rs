//! The frame on the stack of a signal's handler: `struct rt_sigframe` of Linux' arm64
//! (arch/arm64/kernel/signal.c), with the registers of floating point and no other context.

use kvma::Errno;

use super::traps::RETURN_FROM_HANDLER;
use super::user::{LINK, UserContext};
use crate::user::bytes::{Bytes, u32_at, u64_at};
use crate::user::memory::Memory;
use crate::user::signals::{Action, AlternateStack, INFO_LEN, Info, SIGBUS, SIGSEGV, Set, siginfo};

/// Offsets in `struct ucontext`, after flags and link: the stack, the mask with room for a larger
/// one, the address of a fault and the registers, the context of floating point, and the end.
const STACK: usize = 16;
const MASK: usize = 40;
const FAULT: usize = 176;
const REGISTERS: usize = FAULT + 8;
const AFTER_REGISTERS: usize = REGISTERS + 31 * 8;
const FLOATS: usize = FAULT + 288;
const FLOATS_LEN: usize = 528;
const UCONTEXT: usize = FLOATS + FLOATS_LEN + 16;
/// The first word of a context of floating point (`FPSIMD_MAGIC`).
const MAGIC: u32 = 0x4650_8001;
/// The flag of an action that says where its handler returns to.
const SA_RESTORER: u64 = 0x0400_0000;
/// The bits of the status that a program may set.
const CONDITIONS: u64 = 0xf << 28;

/// Returns where a frame may begin on the stack that is in use.
pub fn below(stack_pointer: u64) -> u64 {
    stack_pointer
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
    let len = (INFO_LEN + UCONTEXT) as u64;
    let at = top.checked_sub(len).ok_or(Errno::EFAULT)? & !15;
    let fault = if matches!(info.signal, SIGSEGV | SIGBUS) { info.origin } else { 0 };
    let mut bytes = Bytes::new().bytes(&siginfo(info)).u64(0).u64(0);
    bytes = bytes.u64(stack.start).u32(stack.flags).u32(0).u64(stack.len).u64(mask.0);
    bytes = bytes.up_to(INFO_LEN + FAULT).u64(fault);
    let frame = context.frame();
    for &register in &frame.registers {
        bytes = bytes.u64(register);
    }
    bytes = bytes.u64(frame.stack).u64(frame.instruction).u64(frame.status);
    let vectors = context.vectors();
    bytes = bytes.up_to(INFO_LEN + FLOATS).u32(MAGIC).u32(FLOATS_LEN as u32);
    bytes = bytes.u32(vectors.status as u32).u32(vectors.control as u32);
    for &half in &vectors.registers {
        bytes = bytes.u64(half);
    }
    memory.write(at, bytes.up_to(INFO_LEN + UCONTEXT).as_slice())?;
    let frame = context.frame_mut();
    frame.registers[0] = u64::from(info.signal);
    frame.registers[1] = at;
    frame.registers[2] = at + INFO_LEN as u64;
    // Without the flag, the C library leaves the field as it finds it.
    let has_restorer = action.flags & SA_RESTORER != 0;
    frame.registers[LINK] = if has_restorer { action.restorer } else { RETURN_FROM_HANDLER };
    frame.stack = at;
    frame.instruction = action.handler;
    Ok(())
}

/// Takes the frame off the stack of a handler that returns, and makes the context what it says.
/// Returns the mask, and the stack for handlers.
pub fn pop(memory: &Memory, context: &mut UserContext) -> Result<(Set, AlternateStack), Errno> {
    let bytes = memory.read_vec(context.stack_pointer() + INFO_LEN as u64, UCONTEXT)?;
    let stack = AlternateStack {
        start: u64_at(&bytes, STACK),
        flags: u32_at(&bytes, STACK + 8),
        len: u64_at(&bytes, STACK + 16),
    };
    let frame = context.frame_mut();
    for (number, register) in frame.registers.iter_mut().enumerate() {
        *register = u64_at(&bytes, REGISTERS + 8 * number);
    }
    frame.stack = u64_at(&bytes, AFTER_REGISTERS);
    frame.instruction = u64_at(&bytes, AFTER_REGISTERS + 8);
    frame.status = u64_at(&bytes, AFTER_REGISTERS + 16) & CONDITIONS;
    if u32_at(&bytes, FLOATS) == MAGIC {
        let vectors = context.vectors_mut();
        vectors.status = u64::from(u32_at(&bytes, FLOATS + 8));
        vectors.control = u64::from(u32_at(&bytes, FLOATS + 12));
        for (number, half) in vectors.registers.iter_mut().enumerate() {
            *half = u64_at(&bytes, FLOATS + 16 + 8 * number);
        }
    }
    Ok((Set(u64_at(&bytes, MASK)), stack))
}
