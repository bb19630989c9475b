//! User mode: the way out of it, by system calls and traps, and the way back.
//!
//! A trap from user mode ends on the thread's kernel stack, with all registers in a [`UserContext`]
//! at its top. There is one way back, whatever the way out was. The kernel itself has no floating
//! point, so those registers are saved here alone.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use super::traps::{self, TrapFrame, USER_STATUS};
use crate::arch::Left;
use crate::arch::kernel_stack::KernelStack;

global_asm!(
    r#"
    .option push
    .option arch, +a, +d
    .text
    .global trap_from_user, leave_to_user, switch_stacks
trap_from_user:                         # sp: the top of the kernel stack; sscratch: the program's
    addi sp, sp, -{context}
    .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd x\n, 8*\n(sp)
    .endr
    csrrw t0, sscratch, zero
    sd t0, 16(sp)
    csrr t0, sepc
    sd t0, {instruction}(sp)
    csrr t0, sstatus
    sd t0, {status}(sp)
    csrr t0, scause
    sd t0, {status} + 8(sp)
    csrr t0, stval
    sd t0, {status} + 16(sp)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fsd f\n, {vectors} + 8*\n(sp)
    .endr
    frcsr t0
    sd t0, {vectors} + 256(sp)
    ld tp, {hart}(sp)
    mv a0, sp
    call left_user

leave_to_user:                          # sp: a UserContext; a new thread comes interruptible
    csrci sstatus, 2                    # from here on, sepc and sscratch must stay
    sd tp, {hart}(sp)
    ld t0, {status}(sp)
    csrw sstatus, t0
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fld f\n, {vectors} + 8*\n(sp)
    .endr
    ld t0, {vectors} + 256(sp)
    fscsr t0
    ld t0, {instruction}(sp)
    csrw sepc, t0
    addi t1, sp, {instruction}          # whoever ran here before may have reserved something
    sc.d zero, t0, (t1)
    addi t0, sp, {context}
    csrw sscratch, t0
    .irp n, 1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,2
    ld x\n, 8*\n(sp)
    .endr
    sret

switch_stacks:                          # a0: where to leave this stack, a1: the other stack
    addi sp, sp, -112
    sd ra, 0(sp)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
    sd s\n, 8 + 8*\n(sp)
    .endr
    sd sp, 0(a0)
    mv sp, a1
    ld ra, 0(sp)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
    ld s\n, 8 + 8*\n(sp)
    .endr
    addi sp, sp, 112
    ret

    .section .text.user_probes, "ax"    # a page of its own: see `crate::user::probe`
    .p2align 12
    .global user_probe_load, user_probe_store
user_probe_load:
    ld a0, 0(sp)
    ecall
user_probe_store:
    sd a0, 0(sp)
    ecall
    .p2align 12
    .text
    .option pop
"#,
    context = const size_of::<UserContext>(),
    instruction = const offset_of!(UserContext, frame) + offset_of!(TrapFrame, instruction),
    status = const offset_of!(UserContext, frame) + offset_of!(TrapFrame, status),
    vectors = const offset_of!(UserContext, floats),
    hart = const offset_of!(UserContext, hart),
);

/// All registers of a thread that has left user mode.
#[repr(C, align(16))]
pub struct UserContext {
    frame: TrapFrame,
    /// `f0` to `f31`, and `fcsr`.
    floats: [u64; 33],
    /// The number of the hart that runs the thread.
    hart: u64,
    /// The first argument of the system call, where its answer goes.
    first_argument: u64,
}

/// The words that `switch_stacks` takes off a stack, and which of them is the address to which it
/// returns. Their number is even, as the stack pointer stays a multiple of 16.
pub const SWITCHED: usize = 14;
pub const RETURNS_TO: usize = 0;

/// Registers by their number.
pub(super) const RA: usize = 1;
pub(super) const SP: usize = 2;
const TP: usize = 4;
pub(super) const A0: usize = 10;
const A7: usize = 17;

/// Entered from the code above, on the thread's stack, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn left_user(context: &mut UserContext) {
    let left = traps::from_user(&mut context.frame);
    if left == Left::SystemCall {
        context.first_argument = context.frame.registers[A0];
        if context.frame.is_return_from_handler() {
            context.frame.registers[A7] = u64::from(linux_raw_sys::general::__NR_rt_sigreturn);
        }
    }
    crate::user::left_user(context, left);
}

/// Runs `enter`, which goes to user mode and comes back by a trap on this stack. Interrupts are
/// off, and user mode is not interrupted either.
pub fn once_on(stack: &KernelStack, enter: impl FnOnce()) {
    // The way to user mode has the stack as its own.
    let _ = stack;
    let enabled: u64;
    // SAFETY: no interrupts are taken, as before in the kernel, until they are enabled again below.
    unsafe { asm!("csrrw {}, sie, zero", out(reg) enabled, options(nostack)) };
    enter();
    // SAFETY: as it was.
    unsafe { asm!("csrw sie, {}", in(reg) enabled, options(nostack)) };
}

/// The state of a thread that is not at the top of its kernel stack: none.
#[derive(Debug, Default)]
pub struct ThreadRegisters;

impl ThreadRegisters {
    /// Takes over what the program has changed without asking.
    pub fn save(&self) {}

    /// Makes them those of this processor.
    pub fn load(&self, _stack: &KernelStack) {}

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        Self
    }

    /// Makes them those of a new program.
    pub fn clear(&self) {}

    /// Sets where the thread keeps its variables.
    pub fn set_thread_area(&self, context: &mut UserContext, address: u64) {
        context.frame.registers[TP] = address;
    }
}

impl UserContext {
    /// Returns the registers of a program that starts.
    pub fn new(entry: u64, stack: u64) -> Self {
        let mut frame =
            TrapFrame { instruction: entry, status: USER_STATUS, ..TrapFrame::default() };
        frame.registers[SP] = stack;
        Self { frame, floats: [0; 33], hart: 0, first_argument: 0 }
    }

    /// Returns the registers of code that is not interrupted.
    pub fn without_interrupts(entry: u64, stack: u64) -> Self {
        // Whoever enters user mode turns them off by `once_on`.
        Self::new(entry, stack)
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        let Self { ref frame, floats, hart, first_argument } = *self;
        Self { frame: frame.clone(), floats, hart, first_argument }
    }

    /// Returns the number of the system call.
    pub fn call_number(&self) -> u64 {
        self.frame.registers[A7]
    }

    /// Returns the arguments of the system call.
    pub fn call_arguments(&self) -> [u64; 6] {
        core::array::from_fn(|number| self.frame.registers[A0 + number])
    }

    /// Sets the answer of the system call.
    pub fn answer(&mut self, value: u64) {
        self.frame.registers[A0] = value;
    }

    /// Lets the program make the system call `number` again when it goes on.
    pub fn repeat_call(&mut self, number: u64) {
        self.frame.instruction -= 4; // ECALL
        self.frame.registers[A0] = self.first_argument;
        self.frame.registers[A7] = number;
    }

    pub fn instruction(&self) -> u64 {
        self.frame.instruction
    }

    pub fn stack_pointer(&self) -> u64 {
        self.frame.registers[SP]
    }

    pub fn set_stack_pointer(&mut self, stack: u64) {
        self.frame.registers[SP] = stack;
    }

    pub(super) fn frame(&self) -> &TrapFrame {
        &self.frame
    }

    pub(super) fn frame_mut(&mut self) -> &mut TrapFrame {
        &mut self.frame
    }

    /// Returns `f0` to `f31`, and `fcsr`.
    pub(super) fn floats(&self) -> &[u64; 33] {
        &self.floats
    }

    pub(super) fn floats_mut(&mut self) -> &mut [u64; 33] {
        &mut self.floats
    }
}
