//! User mode: the way out of it, by system calls and traps, and the way back.
//!
//! A trap from user mode ends on the thread's kernel stack, with all registers in a [`UserContext`]
//! at its top. There is one way back, whatever the way out was, and it leaves the stack pointer at
//! that top for the next trap. The kernel itself has no floating point, so those registers are
//! saved here alone.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use super::traps::{self, EXCEPTION, INTERRUPT, TrapFrame};
use crate::arch::Left;
use crate::arch::kernel_stack::KernelStack;

global_asm!(
    r#"
    .arch armv8-a+fp+simd
    .text
    .global trap_from_user_exception, trap_from_user_interrupt, leave_to_user, switch_stacks
trap_from_user_exception:
    sub sp, sp, #{context}
    stp x0, x1, [sp]
    mov x0, #{exception}
    b 1f
trap_from_user_interrupt:
    sub sp, sp, #{context}
    stp x0, x1, [sp]
    mov x0, #{interrupt}
1:  stp x2, x3, [sp, #16]
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
    str x0, [sp, #{instruction} + 32]
    add x1, sp, #{vectors}
    stp q0, q1, [x1]
    stp q2, q3, [x1, #32]
    stp q4, q5, [x1, #64]
    stp q6, q7, [x1, #96]
    stp q8, q9, [x1, #128]
    stp q10, q11, [x1, #160]
    stp q12, q13, [x1, #192]
    stp q14, q15, [x1, #224]
    stp q16, q17, [x1, #256]
    stp q18, q19, [x1, #288]
    stp q20, q21, [x1, #320]
    stp q22, q23, [x1, #352]
    stp q24, q25, [x1, #384]
    stp q26, q27, [x1, #416]
    stp q28, q29, [x1, #448]
    stp q30, q31, [x1, #480]
    mrs x2, fpsr
    mrs x3, fpcr
    add x1, x1, #512
    stp x2, x3, [x1]
    mov x29, #0
    mov x0, sp
    bl left_user

leave_to_user:                          // sp: a UserContext; a new thread comes interruptible
    msr daifset, #2                     // from here on, ELR and SPSR must stay
    add x1, sp, #{vectors}
    ldp q0, q1, [x1]
    ldp q2, q3, [x1, #32]
    ldp q4, q5, [x1, #64]
    ldp q6, q7, [x1, #96]
    ldp q8, q9, [x1, #128]
    ldp q10, q11, [x1, #160]
    ldp q12, q13, [x1, #192]
    ldp q14, q15, [x1, #224]
    ldp q16, q17, [x1, #256]
    ldp q18, q19, [x1, #288]
    ldp q20, q21, [x1, #320]
    ldp q22, q23, [x1, #352]
    ldp q24, q25, [x1, #384]
    ldp q26, q27, [x1, #416]
    ldp q28, q29, [x1, #448]
    ldp q30, q31, [x1, #480]
    add x1, x1, #512
    ldp x2, x3, [x1]
    msr fpsr, x2
    msr fpcr, x3
    clrex                               // whoever ran here before may have reserved something
    ldp x1, x2, [sp, #{instruction}]
    msr elr_el1, x1
    msr spsr_el1, x2
    ldp x30, x1, [sp, #240]
    msr sp_el0, x1
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
    add sp, sp, #{context}
    eret

switch_stacks:                          // x0: where to leave this stack, x1: the other stack
    stp x29, x30, [sp, #-96]!
    stp x19, x20, [sp, #16]
    stp x21, x22, [sp, #32]
    stp x23, x24, [sp, #48]
    stp x25, x26, [sp, #64]
    stp x27, x28, [sp, #80]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #16]
    ldp x21, x22, [sp, #32]
    ldp x23, x24, [sp, #48]
    ldp x25, x26, [sp, #64]
    ldp x27, x28, [sp, #80]
    ldp x29, x30, [sp], #96
    ret

    .section .text.user_probes, "ax"    // a page of its own: see `crate::user::probe`
    .p2align 12
    .global user_probe_load, user_probe_store
user_probe_load:
    ldr x0, [sp]
    svc #0
user_probe_store:
    str x0, [sp]
    svc #0
    .p2align 12
    .text
"#,
    context = const size_of::<UserContext>(),
    instruction = const offset_of!(UserContext, frame) + offset_of!(TrapFrame, instruction),
    vectors = const offset_of!(UserContext, vectors),
    exception = const EXCEPTION,
    interrupt = const INTERRUPT,
);

/// All registers of a thread that has left user mode.
#[repr(C, align(16))]
pub struct UserContext {
    frame: TrapFrame,
    vectors: Vectors,
    /// The first argument of the system call, where its answer goes.
    first_argument: u64,
}

/// `q0` to `q31`, `fpsr` and `fpcr`.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub struct Vectors {
    pub registers: [u64; 64],
    pub status: u64,
    pub control: u64,
}

/// The words that `switch_stacks` takes off a stack, and which of them is the address to which it
/// returns. Their number is even, as the stack pointer stays a multiple of 16.
pub const SWITCHED: usize = 12;
pub const RETURNS_TO: usize = 1;

/// The registers for numbers of system calls, and for addresses to return to.
const NUMBER: usize = 8;
pub(super) const LINK: usize = 30;

/// Entered from the code above, on the thread's stack, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn left_user(context: &mut UserContext) {
    let left = traps::from_user(&context.frame);
    if left == Left::SystemCall {
        context.first_argument = context.frame.registers[0];
        if context.frame.is_return_from_handler() {
            context.frame.registers[NUMBER] = u64::from(linux_raw_sys::general::__NR_rt_sigreturn);
        }
    }
    crate::user::left_user(context, left);
}

/// Runs `enter`, which goes to user mode and comes back by a trap on this stack. Interrupts are
/// off, and user mode is not interrupted either.
pub fn once_on(stack: &KernelStack, enter: impl FnOnce()) {
    // The way to user mode has it as its own.
    let _ = stack;
    enter();
}

/// The state of a thread that is not at the top of its kernel stack.
#[derive(Debug, Default)]
pub struct ThreadRegisters {
    /// `tpidr_el0`, where programs keep the address of thread-local variables.
    area: AtomicU64,
}

impl ThreadRegisters {
    /// Takes over what the program has changed without asking.
    pub fn save(&self) {
        let area;
        // SAFETY: reads a register that the kernel itself does not use.
        unsafe { asm!("mrs {}, tpidr_el0", out(reg) area, options(nomem, nostack)) };
        self.area.store(area, Relaxed);
    }

    /// Makes them those of this processor.
    pub fn load(&self, _stack: &KernelStack) {
        // SAFETY: sets a register that the kernel itself does not use.
        unsafe { asm!("msr tpidr_el0, {}", in(reg) self.area.load(Relaxed), options(nostack)) };
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        Self { area: AtomicU64::new(self.area.load(Relaxed)) }
    }

    /// Makes them those of a new program.
    pub fn clear(&self) {
        self.area.store(0, Relaxed);
    }

    /// Sets where the thread keeps its variables.
    pub fn set_thread_area(&self, _context: &mut UserContext, address: u64) {
        self.area.store(address, Relaxed);
    }
}

impl UserContext {
    /// Returns the registers of a program that starts.
    pub fn new(entry: u64, stack: u64) -> Self {
        let frame = TrapFrame { instruction: entry, stack, ..TrapFrame::default() };
        let vectors = Vectors { registers: [0; 64], status: 0, control: 0 };
        Self { frame, vectors, first_argument: 0 }
    }

    /// Returns the registers of code that is not interrupted.
    pub fn without_interrupts(entry: u64, stack: u64) -> Self {
        let mut context = Self::new(entry, stack);
        context.frame.status = traps::MASKED;
        context
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        let Self { ref frame, vectors, first_argument } = *self;
        Self { frame: frame.clone(), vectors, first_argument }
    }

    /// Returns the number of the system call.
    pub fn call_number(&self) -> u64 {
        self.frame.registers[NUMBER]
    }

    /// Returns the arguments of the system call.
    pub fn call_arguments(&self) -> [u64; 6] {
        core::array::from_fn(|number| self.frame.registers[number])
    }

    /// Sets the answer of the system call.
    pub fn answer(&mut self, value: u64) {
        self.frame.registers[0] = value;
    }

    /// Lets the program make the system call `number` again when it goes on.
    pub fn repeat_call(&mut self, number: u64) {
        self.frame.instruction -= 4; // SVC
        self.frame.registers[0] = self.first_argument;
        self.frame.registers[NUMBER] = number;
    }

    pub fn instruction(&self) -> u64 {
        self.frame.instruction
    }

    pub fn stack_pointer(&self) -> u64 {
        self.frame.stack
    }

    pub fn set_stack_pointer(&mut self, stack: u64) {
        self.frame.stack = stack;
    }

    pub(super) fn frame(&self) -> &TrapFrame {
        &self.frame
    }

    pub(super) fn frame_mut(&mut self) -> &mut TrapFrame {
        &mut self.frame
    }

    pub(super) fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    pub(super) fn vectors_mut(&mut self) -> &mut Vectors {
        &mut self.vectors
    }
}
