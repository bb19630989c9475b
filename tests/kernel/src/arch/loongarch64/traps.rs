//! Traps: the way into Rust and back.
//!
//! The register SAVE0 is zero in the kernel. In user mode it is the top of the thread's kernel
//! stack, on which a trap from there begins (see `user`). A trap in the kernel stays on the stack
//! that is in use. Where the TLB has no entry, there is no trap here: `kvma-machine`'s entry code
//! fills one in, and if it allows nothing, the access traps.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use kvma_machine::{cpu, interrupts};

use super::walk;
use crate::arch::{Access, Exception, Left};
use crate::tlb;

global_asm!(
    r#"
    .text
    .p2align 12
    .global trap_entry
trap_entry:
    csrwr $sp, 0x30
    bnez $sp, 1f                        # see `user`
    csrwr $sp, 0x30
    addi.d $sp, $sp, -{frame}
    .irp n, 1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    st.d $r\n, $sp, 8*\n
    .endr
    addi.d $t0, $sp, {frame}
    st.d $t0, $sp, 8*3
    csrrd $t0, 0x6                      # ERA
    st.d $t0, $sp, {instruction}
    csrrd $t0, 0x1                      # PRMD
    st.d $t0, $sp, {mode}
    csrrd $t0, 0x5                      # ESTAT
    st.d $t0, $sp, {mode} + 8
    csrrd $t0, 0x7                      # BADV
    st.d $t0, $sp, {mode} + 16
    move $a0, $sp
    bl trap_in_rust
    ld.d $t0, $sp, {instruction}
    csrwr $t0, 0x6
    ld.d $t0, $sp, {mode}
    csrwr $t0, 0x1
    .irp n, 1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,3
    ld.d $r\n, $sp, 8*\n
    .endr
    ertn
1:  b trap_from_user
"#,
    frame = const size_of::<TrapFrame>(),
    instruction = const offset_of!(TrapFrame, instruction),
    mode = const offset_of!(TrapFrame, mode),
);

/// The registers of what was interrupted, and why it was.
#[derive(Clone, Default)]
#[repr(C, align(16))]
pub struct TrapFrame {
    /// `r0`, which is zero, to `r31`.
    pub(super) registers: [u64; 32],
    /// The address at which the interrupted code continues.
    pub instruction: u64,
    pub(super) mode: u64,
    pub(super) state: u64,
    pub(super) value: u64,
}

/// Bits of the mode before the trap (PRMD): its privilege, which is 3 for programs, and if it took
/// interrupts.
pub(super) const PRIVILEGE: u64 = 3;
const INTERRUPTIBLE: u64 = 1 << 2;
pub(super) const USER_MODE: u64 = PRIVILEGE | INTERRUPTIBLE;

/// Exceptions, as the state (ESTAT) has them in its bits 16 to 21.
mod code {
    pub const INTERRUPT: u64 = 0;
    pub const LOAD: u64 = 1;
    pub const STORE: u64 = 2;
    pub const FETCH: u64 = 3;
    /// A store to a page that does not allow it.
    pub const NOT_DIRTY: u64 = 4;
    pub const NO_READ: u64 = 5;
    pub const NO_EXECUTE: u64 = 6;
    /// An access to a page of the kernel's.
    pub const PRIVILEGE: u64 = 7;
    pub const ADDRESS: u64 = 8;
    pub const ALIGNMENT: u64 = 9;
    pub const SYSTEM_CALL: u64 = 11;
    pub const BREAKPOINT: u64 = 12;
    pub const NO_INSTRUCTION: u64 = 13;
    pub const PRIVILEGED: u64 = 14;
    pub const NO_FLOATS: u64 = 15;
    pub const NO_VECTORS: u64 = 16;
    pub const NO_LARGE_VECTORS: u64 = 17;
    pub const FLOATS: u64 = 18;
}

/// To this address, handlers of signals return: there is no memory.
pub const RETURN_FROM_HANDLER: u64 = 0xffff_ffff_ff60_0000;

/// Sets this processor's traps up, and turns interrupts on.
pub fn init() {
    unsafe extern "C" {
        fn trap_entry();
    }
    // SAFETY: the code above saves all state and restores it.
    unsafe {
        asm!("csrwr {}, 0xc", inout(reg) trap_entry as *const () as usize => _, options(nostack));
    }
    interrupts::init();
    interrupts::enable();
}

impl TrapFrame {
    fn code(&self) -> u64 {
        self.state >> 16 & 0x3f
    }

    /// Returns the access that page tables did not allow.
    fn access(&self) -> Option<Access> {
        match self.code() {
            code::FETCH | code::NO_EXECUTE => Some(Access::Fetch),
            code::LOAD | code::NO_READ => Some(Access::Load),
            code::STORE | code::NOT_DIRTY => Some(Access::Store),
            // Of such a page, programs see nothing, so any access will do.
            code::PRIVILEGE if self.value == self.instruction => Some(Access::Fetch),
            code::PRIVILEGE => Some(Access::Load),
            _ => None,
        }
    }

    /// Drops the TLB entry that says that a page is absent, after a fault. Returns true if it was
    /// old, and the page is present by now: so the access is to be made again.
    ///
    /// The TLB has entries of two pages, so one of them may have come in as absent with its
    /// neighbour, long before.
    fn forget_absent(&self) -> bool {
        let is_absent = matches!(self.code(), code::LOAD | code::STORE | code::FETCH);
        if is_absent {
            cpu::flush_page(self.value);
        }
        is_absent && walk::is_present(self.value)
    }

    /// Serves an interrupt. False if it is none.
    fn interrupt(&self) -> bool {
        if self.code() != code::INTERRUPT {
            return false;
        }
        if self.state & interrupts::CALL != 0 {
            interrupts::end_call();
            tlb::serve_others();
        }
        if self.state & interrupts::TIMER != 0 {
            interrupts::next_tick();
            crate::user::tick(self.instruction, self.mode & PRIVILEGE != 0);
        }
        true
    }
}

/// Returns true if the last exception was a BREAK by which compiled code reports a division by zero
/// (`BRK_DIVZERO`): the division itself causes none.
fn is_division_by_zero() -> bool {
    const DIVISION_BY_ZERO: u32 = 0x002a_0007;
    let instruction: u64;
    // SAFETY: reads BADI, the instruction that caused the exception.
    unsafe { asm!("csrrd {}, 0x8", out(reg) instruction, options(nomem, nostack)) };
    instruction as u32 == DIVISION_BY_ZERO
}

/// Takes note of a trap from user mode. Interrupts are off.
pub(super) fn from_user(frame: &mut TrapFrame) -> Left {
    if frame.interrupt() {
        return Left::Interrupt;
    }
    if let Some(access) = frame.access() {
        if frame.is_return_from_handler() {
            return Left::SystemCall;
        }
        if frame.forget_absent() {
            return Left::Interrupt;
        }
        return Left::PageFault { address: frame.value, access };
    }
    Left::Exception(match frame.code() {
        code::SYSTEM_CALL => {
            frame.instruction += 4; // SYSCALL
            return Left::SystemCall;
        }
        code::BREAKPOINT if is_division_by_zero() => Exception::Arithmetic,
        code::BREAKPOINT => Exception::Breakpoint,
        code::NO_INSTRUCTION
        | code::PRIVILEGED
        | code::NO_FLOATS
        | code::NO_VECTORS
        | code::NO_LARGE_VECTORS => Exception::Illegal,
        code::ADDRESS => Exception::Address(frame.value),
        code::ALIGNMENT => Exception::Alignment,
        code::FLOATS => Exception::Arithmetic,
        _ => Exception::Protection,
    })
}

impl TrapFrame {
    /// Returns true if a handler of a signal has returned.
    pub(super) fn is_return_from_handler(&self) -> bool {
        self.access() == Some(Access::Fetch) && self.value == RETURN_FROM_HANDLER
    }
}

#[unsafe(no_mangle)]
extern "C" fn trap_in_rust(frame: &mut TrapFrame) {
    let (at, value) = (frame.instruction, frame.value);
    if frame.interrupt() {
        return;
    }
    match frame.access() {
        Some(_) if frame.forget_absent() => {}
        Some(access) => {
            let interruptible = frame.mode & INTERRUPTIBLE != 0;
            crate::fault::page_fault(frame, value, access, interruptible);
        }
        // Freed frames are filled with breakpoints (see `frames`).
        None if frame.code() == code::BREAKPOINT => panic!("executed a freed frame at {at:#x}"),
        None => panic!("exception {:#x} at {at:#x}, value {value:#x}", frame.code()),
    }
}
