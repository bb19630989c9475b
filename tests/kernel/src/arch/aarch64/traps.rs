//! Traps: the way into Rust and back.
//!
//! A trap in the kernel stays on the stack that is in use. One in user mode begins at the top of
//! the thread's kernel stack, where the way back has left the stack pointer (see `user`).

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use kvma_machine::{gic, interrupts};

use crate::arch::{Access, Exception, Left};
use crate::tlb;

global_asm!(
    r#"
    .text
    .macro KERNEL kind
    .balign 128
    sub sp, sp, #{frame}
    stp x0, x1, [sp]
    mov x0, #\kind
    b trap_from_kernel
    .endm
    .macro USER kind
    .balign 128
    b trap_from_user_\kind              // see `user`
    .endm
    .balign 2048
trap_vectors:
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}
    KERNEL {exception}
    KERNEL {interrupt}
    KERNEL {other}
    KERNEL {other}
    USER exception
    USER interrupt
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}
    KERNEL {other}

    .global trap_vectors
trap_from_kernel:
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
    mrs x1, sp_el0
    stp x30, x1, [sp, #240]
    mrs x1, elr_el1
    mrs x2, spsr_el1
    stp x1, x2, [sp, #{instruction}]
    mrs x1, esr_el1
    mrs x2, far_el1
    stp x1, x2, [sp, #{instruction} + 16]
    str x0, [sp, #{kind}]
    mov x0, sp
    bl trap_in_rust
    ldp x1, x2, [sp, #{instruction}]
    msr elr_el1, x1
    msr spsr_el1, x2
    ldr x30, [sp, #240]
    ldp x28, x29, [sp, #224]
    ldp x26, x27, [sp, #208]
    ldp x24, x25, [sp, #192]
    ldp x22, x23, [sp, #176]
    ldp x20, x21, [sp, #160]
    ldp x18, x19, [sp, #144]
    ldp x16, x17, [sp, #128]
    ldp x14, x15, [sp, #112]
    ldp x12, x13, [sp, #96]
    ldp x10, x11, [sp, #80]
    ldp x8, x9, [sp, #64]
    ldp x6, x7, [sp, #48]
    ldp x4, x5, [sp, #32]
    ldp x2, x3, [sp, #16]
    ldp x0, x1, [sp]
    add sp, sp, #{frame}
    eret
"#,
    frame = const size_of::<TrapFrame>(),
    instruction = const offset_of!(TrapFrame, instruction),
    kind = const offset_of!(TrapFrame, kind),
    exception = const EXCEPTION,
    interrupt = const INTERRUPT,
    other = const OTHER,
);

/// Kinds of traps: one that an instruction has caused, one that a device has, and those that do not
/// happen.
pub(super) const EXCEPTION: u64 = 0;
pub(super) const INTERRUPT: u64 = 1;
const OTHER: u64 = 2;

/// The registers of what was interrupted, and why it was.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct TrapFrame {
    /// `x0` to `x30`.
    pub(super) registers: [u64; 31],
    /// The stack pointer of user mode.
    pub(super) stack: u64,
    /// The address at which the interrupted code continues.
    pub instruction: u64,
    pub(super) status: u64,
    pub(super) syndrome: u64,
    pub(super) address: u64,
    pub(super) kind: u64,
}

/// Bits of the status: the mode, which is 0 for user mode; interrupts are off.
const MODE: u64 = 0xf;
pub(super) const MASKED: u64 = 1 << 7;

/// Classes of exceptions.
mod class {
    pub const FLOATING_POINT: u64 = 0x2c;
    pub const UNKNOWN: u64 = 0;
    pub const SYSTEM_CALL: u64 = 0x15;
    pub const FETCH_BY_USER: u64 = 0x20;
    pub const FETCH: u64 = 0x21;
    pub const INSTRUCTION_MISALIGNED: u64 = 0x22;
    pub const DATA_BY_USER: u64 = 0x24;
    pub const DATA: u64 = 0x25;
    pub const STACK_MISALIGNED: u64 = 0x26;
    pub const STEP_BY_USER: u64 = 0x32;
    pub const BREAKPOINT: u64 = 0x3c;
}

/// To this address, handlers of signals return: there is no memory.
pub const RETURN_FROM_HANDLER: u64 = 0xffff_ffff_ff60_0000;

/// Sets this processor's traps up, and turns interrupts on.
pub fn init() {
    unsafe extern "C" {
        fn trap_vectors();
    }
    // SAFETY: the code above saves all state and restores it.
    unsafe {
        let vectors = trap_vectors as *const () as usize;
        asm!("msr vbar_el1, {}", "isb", in(reg) vectors, options(nostack));
    }
    gic::init_processor();
    interrupts::enable();
}

impl TrapFrame {
    fn class(&self) -> u64 {
        self.syndrome >> 26
    }

    /// Returns the access that has caused a page fault, if it was one.
    fn access(&self) -> Option<Access> {
        const STORE: u64 = 1 << 6;
        const OF_CACHES: u64 = 1 << 8;
        // Translation, access flag and permission faults, of any level.
        let is_page_fault = matches!((self.syndrome >> 2) & 0xf, 1..=3);
        match self.class() {
            class::FETCH | class::FETCH_BY_USER if is_page_fault => Some(Access::Fetch),
            class::DATA | class::DATA_BY_USER if is_page_fault => {
                let stores = self.syndrome & STORE != 0 && self.syndrome & OF_CACHES == 0;
                Some(if stores { Access::Store } else { Access::Load })
            }
            _ => None,
        }
    }

    /// Serves an interrupt.
    fn interrupt(&self) {
        let taken = gic::acknowledge();
        match gic::number(taken) {
            gic::CALL => {
                tlb::serve_others();
                gic::end(taken);
            }
            gic::TICK => {
                interrupts::next_tick();
                crate::user::tick(self.instruction, self.status & MODE == 0);
                gic::end(taken);
            }
            // It has gone away before it was taken.
            _ => {}
        }
    }

    /// Returns true if a handler of a signal has returned.
    pub(super) fn is_return_from_handler(&self) -> bool {
        self.kind == EXCEPTION
            && self.class() == class::FETCH_BY_USER
            && self.address == RETURN_FROM_HANDLER
    }
}

/// Takes note of a trap from user mode. Interrupts are off.
pub(super) fn from_user(frame: &TrapFrame) -> Left {
    if frame.kind == INTERRUPT {
        frame.interrupt();
        return Left::Interrupt;
    }
    if frame.is_return_from_handler() {
        return Left::SystemCall;
    }
    if let Some(access) = frame.access() {
        return Left::PageFault { address: frame.address, access };
    }
    Left::Exception(match frame.class() {
        class::SYSTEM_CALL => return Left::SystemCall,
        class::BREAKPOINT | class::STEP_BY_USER => Exception::Breakpoint,
        class::UNKNOWN => Exception::Illegal,
        class::FLOATING_POINT => Exception::Arithmetic,
        class::INSTRUCTION_MISALIGNED | class::STACK_MISALIGNED | class::DATA_BY_USER => {
            Exception::Alignment
        }
        _ => Exception::Protection,
    })
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(frame: &mut TrapFrame) {
    let (at, address) = (frame.instruction, frame.address);
    match (frame.kind, frame.access()) {
        (INTERRUPT, _) => frame.interrupt(),
        (EXCEPTION, Some(access)) => {
            let interruptible = frame.status & MASKED == 0;
            crate::fault::page_fault(frame, address, access, interruptible);
        }
        // Freed frames are filled with breakpoints (see `frames`).
        (EXCEPTION, None) if frame.class() == class::BREAKPOINT => {
            panic!("executed a freed frame at {at:#x}")
        }
        (kind, _) => {
            panic!("trap {kind}, syndrome {:#x}, at {at:#x}, address {address:#x}", frame.syndrome)
        }
    }
}
