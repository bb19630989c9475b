//! The frame on the stack of a signal's handler: `struct rt_sigframe` of Linux' LoongArch
//! (arch/loongarch/kernel/signal.c), with vectors of 128 bits.

use kvma::Errno;

use super::traps::RETURN_FROM_HANDLER;
use super::user::{A0, RA, SP, UserContext};
use crate::user::bytes::{Bytes, u32_at, u64_at};
use crate::user::memory::Memory;
use crate::user::signals::{Action, AlternateStack, INFO_LEN, Info, Set, siginfo};

/// Offsets in `struct ucontext`, after flags and link: the stack, the mask with room for a larger
/// one, the registers with their flags, and records of further registers, of which the last one is
/// empty.
const STACK: usize = 16;
const MASK: usize = 40;
const REGISTERS: usize = 176;
const FLAGS: usize = REGISTERS + 264;
const VECTORS_RECORD: usize = FLAGS + 8;
const VECTORS: usize = VECTORS_RECORD + RECORD;
const LAST_RECORD: usize = VECTORS + VECTORS_LEN;
const UCONTEXT: usize = LAST_RECORD + RECORD;

/// The length of a record's beginning (`struct sctx_info`), and of the vectors with what belongs to
/// floating point (`struct lsx_context`), in bytes.
const RECORD: usize = 16;
const VECTORS_LEN: usize = 528;
/// `LSX_CTX_MAGIC`.
const IS_VECTORS: u32 = 0x5358_0001;
/// `SC_USED_FP`.
const HAS_VECTORS: u32 = 1;

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
    let mut bytes = Bytes::new().bytes(&siginfo(info)).u64(0).u64(0);
    bytes = bytes.u64(stack.start).u32(stack.flags).u32(0).u64(stack.len).u64(mask.0);
    bytes = bytes.up_to(INFO_LEN + REGISTERS).u64(context.instruction());
    for &register in &context.frame().registers {
        bytes = bytes.u64(register);
    }
    bytes = bytes.u32(HAS_VECTORS).up_to(INFO_LEN + VECTORS_RECORD);
    bytes = bytes.u32(IS_VECTORS).u32((RECORD + VECTORS_LEN) as u32).u64(0);
    let vectors = context.vectors();
    for &word in &vectors.registers {
        bytes = bytes.u64(word);
    }
    bytes = bytes.u64(vectors.flags).u32(vectors.control);
    memory.write(at, bytes.up_to(INFO_LEN + UCONTEXT).as_slice())?;
    let frame = context.frame_mut();
    frame.registers[RA] = RETURN_FROM_HANDLER;
    frame.registers[SP] = at;
    frame.registers[A0] = u64::from(info.signal);
    frame.registers[A0 + 1] = at;
    frame.registers[A0 + 2] = at + INFO_LEN as u64;
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
    frame.instruction = u64_at(&bytes, REGISTERS);
    for (number, register) in frame.registers.iter_mut().enumerate().skip(1) {
        *register = u64_at(&bytes, REGISTERS + 8 + 8 * number);
    }
    if u32_at(&bytes, VECTORS_RECORD) == IS_VECTORS {
        let vectors = context.vectors_mut();
        for (number, word) in vectors.registers.iter_mut().enumerate() {
            *word = u64_at(&bytes, VECTORS + 8 * number);
        }
        vectors.flags = u64_at(&bytes, VECTORS + 512);
        vectors.control = u32_at(&bytes, VECTORS + 520);
    }
    Ok((Set(u64_at(&bytes, MASK)), stack))
}
