//! Traps: the way into Rust and back.
//!
//! `sscratch` is zero in the kernel. In user mode it is the top of the thread's kernel stack, on
//! which a trap from there begins (see `user`). A trap in the kernel stays on the stack that is in
//! use. `tp` is the number of the hart.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use kvma_machine::interrupts;

use crate::arch::{Access, Exception, Left};
use crate::tlb;

global_asm!(
    r#"
    .text
    .align 2
    .global trap_entry
trap_entry:
    csrrw sp, sscratch, sp
    bnez sp, trap_from_user             # see `user`
    csrrw sp, sscratch, zero
    addi sp, sp, -{frame}
    .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd x\n, 8*\n(sp)
    .endr
    addi t0, sp, {frame}
    sd t0, 16(sp)
    csrr t0, sepc
    sd t0, {instruction}(sp)
    csrr t0, sstatus
    sd t0, {status}(sp)
    csrr t0, scause
    sd t0, {cause}(sp)
    csrr t0, stval
    sd t0, {value}(sp)
    mv a0, sp
    call trap_in_rust
    ld t0, {instruction}(sp)
    csrw sepc, t0
    ld t0, {status}(sp)
    csrw sstatus, t0
    .irp n, 1,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,2
    ld x\n, 8*\n(sp)
    .endr
    sret
"#,
    frame = const size_of::<TrapFrame>(),
    instruction = const offset_of!(TrapFrame, instruction),
    status = const offset_of!(TrapFrame, status),
    cause = const offset_of!(TrapFrame, cause),
    value = const offset_of!(TrapFrame, value),
);

/// The registers of what was interrupted, and why it was.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct TrapFrame {
    /// `x0`, which is zero, to `x31`.
    pub(super) registers: [u64; 32],
    /// The address at which the interrupted code continues.
    pub instruction: u64,
    pub(super) status: u64,
    pub(super) cause: u64,
    pub(super) value: u64,
}

/// Bits of `sstatus`: interrupts were on before the trap; it came from the kernel.
const INTERRUPTIBLE: u64 = 1 << 5;
const FROM_KERNEL: u64 = 1 << 8;
/// Interrupts are on in user mode, which has floating point; its registers have 64 bits.
pub(super) const USER_STATUS: u64 = INTERRUPTIBLE | 1 << 13 | 2 << 32;

/// Values of `scause`.
mod cause {
    const INTERRUPT: u64 = 1 << 63;
    pub const SOFTWARE: u64 = INTERRUPT | 1;
    pub const TIMER: u64 = INTERRUPT | 5;
    pub const FETCH_MISALIGNED: u64 = 0;
    pub const ILLEGAL: u64 = 2;
    pub const BREAKPOINT: u64 = 3;
    pub const LOAD_MISALIGNED: u64 = 4;
    pub const STORE_MISALIGNED: u64 = 6;
    pub const SYSTEM_CALL: u64 = 8;
    pub const FETCH: u64 = 12;
    pub const LOAD: u64 = 13;
    pub const STORE: u64 = 15;
}

/// To this address, handlers of signals return: there is no memory.
pub const RETURN_FROM_HANDLER: u64 = 0xffff_ffff_ff60_0000;

/// Sets this hart's traps up, and turns interrupts on.
pub fn init() {
    unsafe extern "C" {
        fn trap_entry();
    }
    // SAFETY: the code above saves all state and restores it.
    unsafe { asm!("csrw stvec, {}", in(reg) trap_entry as *const () as usize, options(nostack)) };
    interrupts::init();
    interrupts::enable();
}

impl TrapFrame {
    fn access(&self) -> Option<Access> {
        match self.cause {
            cause::FETCH => Some(Access::Fetch),
            cause::LOAD => Some(Access::Load),
            cause::STORE => Some(Access::Store),
            _ => None,
        }
    }

    /// Serves an interrupt. False if it is none.
    fn interrupt(&self) -> bool {
        match self.cause {
            cause::SOFTWARE => {
                interrupts::end_call();
                tlb::serve_others();
            }
            cause::TIMER => {
                interrupts::next_tick();
                crate::user::tick(self.instruction, self.status & FROM_KERNEL == 0);
            }
            _ => return false,
        }
        true
    }
}

/// Takes note of a trap from user mode. Interrupts are off.
pub(super) fn from_user(frame: &mut TrapFrame) -> Left {
    if frame.interrupt() {
        return Left::Interrupt;
    }
    if let Some(access) = frame.access() {
        if access == Access::Fetch && frame.value == RETURN_FROM_HANDLER {
            return Left::SystemCall;
        }
        return Left::PageFault { address: frame.value, access };
    }
    Left::Exception(match frame.cause {
        cause::SYSTEM_CALL => {
            frame.instruction += 4; // ECALL
            return Left::SystemCall;
        }
        cause::BREAKPOINT => Exception::Breakpoint,
        cause::ILLEGAL => Exception::Illegal,
        cause::FETCH_MISALIGNED | cause::LOAD_MISALIGNED | cause::STORE_MISALIGNED => {
            Exception::Alignment
        }
        _ => Exception::Protection,
    })
}

impl TrapFrame {
    /// Returns true if a handler of a signal has returned.
    pub(super) fn is_return_from_handler(&self) -> bool {
        self.cause == cause::FETCH && self.value == RETURN_FROM_HANDLER
    }
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(frame: &mut TrapFrame) {
    let (at, value) = (frame.instruction, frame.value);
    if frame.interrupt() {
        return;
    }
    match frame.access() {
        Some(access) => {
            let interruptible = frame.status & INTERRUPTIBLE != 0;
            crate::fault::page_fault(frame, value, access, interruptible);
        }
        // Freed frames are filled with breakpoints (see `frames`).
        None if frame.cause == cause::BREAKPOINT => panic!("executed a freed frame at {at:#x}"),
        None => panic!("exception {:#x} at {at:#x}, value {value:#x}", frame.cause),
    }
}
