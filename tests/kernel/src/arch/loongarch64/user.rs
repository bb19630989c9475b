//! User mode: the way out of it, by system calls and traps, and the way back.
//!
//! A trap from user mode ends on the thread's kernel stack, with all registers in a [`UserContext`]
//! at its top. There is one way back, whatever the way out was. The kernel itself has no floating
//! point, so those registers are saved here alone, with the vectors of 128 bits (LSX) that they are
//! the lower halves of. Debian's programs need those; the larger ones (LASX) are off.

use core::arch::global_asm;
use core::mem::offset_of;

use super::traps::{self, TrapFrame, USER_MODE};
use crate::arch::Left;
use crate::arch::kernel_stack::KernelStack;

// The assembler has none of these instructions for a target without floating point, so their words
// stand here.
global_asm!(
    r#"
    .macro store_vector n
    .word 0x2c400000 | (({vectors} + 16*\n) << 10) | (3 << 5) | \n  # vst $vr\n, $sp
    .endm
    .macro load_vector n
    .word 0x2c000000 | (({vectors} + 16*\n) << 10) | (3 << 5) | \n  # vld $vr\n, $sp
    .endm
    .macro store_flag n
    .word 0x0114dc0c | (\n << 5)        # movcf2gr $t0, $fcc\n
    st.b $t0, $sp, {flags} + \n
    .endm
    .macro load_flag n
    ld.bu $t0, $sp, {flags} + \n
    .word 0x0114d980 | \n               # movgr2cf $fcc\n, $t0
    .endm

    .text
    .global trap_from_user, leave_to_user, switch_stacks
trap_from_user:                         # sp: the top of the kernel stack; SAVE0: the program's
    addi.d $sp, $sp, -{context}
    .irp n, 1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    st.d $r\n, $sp, 8*\n
    .endr
    move $t0, $zero
    csrwr $t0, 0x30
    st.d $t0, $sp, 8*3
    csrrd $t0, 0x6                      # ERA
    st.d $t0, $sp, {instruction}
    csrrd $t0, 0x1                      # PRMD
    st.d $t0, $sp, {mode}
    csrrd $t0, 0x5                      # ESTAT
    st.d $t0, $sp, {mode} + 8
    csrrd $t0, 0x7                      # BADV
    st.d $t0, $sp, {mode} + 16
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    store_vector \n
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    store_flag \n
    .endr
    .word 0x0114c80c                    # movfcsr2gr $t0, $fcsr0
    st.w $t0, $sp, {control}
    move $a0, $sp
    bl left_user

leave_to_user:                          # sp: a UserContext; a new thread comes interruptible
    li.w $t0, 4
    csrxchg $zero, $t0, 0x0             # from here on, ERA, PRMD and SAVE0 must stay
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    load_vector \n
    .endr
    .irp n, 0,1,2,3,4,5,6,7
    load_flag \n
    .endr
    ld.wu $t0, $sp, {control}
    .word 0x0114c180                    # movgr2fcsr $fcsr0, $t0
    ld.d $t0, $sp, {instruction}
    csrwr $t0, 0x6
    ld.d $t0, $sp, {mode}
    csrwr $t0, 0x1
    addi.d $t0, $sp, {context}
    csrwr $t0, 0x30
    .irp n, 1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,3
    ld.d $r\n, $sp, 8*\n
    .endr
    ertn                                # what whoever ran here before has reserved is given up

switch_stacks:                          # a0: where to leave this stack, a1: the other stack
    addi.d $sp, $sp, -96
    st.d $ra, $sp, 0
    .irp n, 22,23,24,25,26,27,28,29,30,31
    st.d $r\n, $sp, 8*(\n - 21)
    .endr
    st.d $sp, $a0, 0
    move $sp, $a1
    ld.d $ra, $sp, 0
    .irp n, 22,23,24,25,26,27,28,29,30,31
    ld.d $r\n, $sp, 8*(\n - 21)
    .endr
    addi.d $sp, $sp, 96
    ret

    .section .text.user_probes, "ax"    # a page of its own: see `crate::user::probe`
    .p2align 12
    .global user_probe_load, user_probe_store
user_probe_load:
    ld.d $a0, $sp, 0
    syscall 0
user_probe_store:
    st.d $a0, $sp, 0
    syscall 0
    .p2align 12
    .text
"#,
    context = const size_of::<UserContext>(),
    instruction = const offset_of!(UserContext, frame) + offset_of!(TrapFrame, instruction),
    mode = const offset_of!(UserContext, frame) + offset_of!(TrapFrame, mode),
    vectors = const offset_of!(UserContext, vectors) + offset_of!(Vectors, registers),
    flags = const offset_of!(UserContext, vectors) + offset_of!(Vectors, flags),
    control = const offset_of!(UserContext, vectors) + offset_of!(Vectors, control),
);

/// The registers of vectors and floating point, in the order of the frame on a handler's stack.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Vectors {
    /// `vr0` to `vr31`, two words each, of which the first is `f0` and so on.
    pub registers: [u64; 64],
    /// `fcc0` to `fcc7`, a byte each.
    pub flags: u64,
    /// `fcsr0`.
    pub control: u32,
}

/// All registers of a thread that has left user mode.
#[repr(C, align(16))]
pub struct UserContext {
    frame: TrapFrame,
    vectors: Vectors,
    /// The first argument of the system call, where its answer goes.
    first_argument: u64,
}

/// The words that `switch_stacks` takes off a stack, and which of them is the address to which it
/// returns. Their number is even, as the stack pointer stays a multiple of 16.
pub const SWITCHED: usize = 12;
pub const RETURNS_TO: usize = 0;

/// Registers by their number.
pub(super) const RA: usize = 1;
const TP: usize = 2;
pub(super) const SP: usize = 3;
pub(super) const A0: usize = 4;
const A7: usize = 11;

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
    // The way to user mode has it as its own.
    let _ = stack;
    enter();
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
        let mut frame = TrapFrame { instruction: entry, mode: USER_MODE, ..TrapFrame::default() };
        frame.registers[SP] = stack;
        Self {
            frame,
            vectors: Vectors { registers: [0; 64], flags: 0, control: 0 },
            first_argument: 0,
        }
    }

    /// Returns the registers of code that is not interrupted.
    pub fn without_interrupts(entry: u64, stack: u64) -> Self {
        let mut context = Self::new(entry, stack);
        context.frame.mode = traps::PRIVILEGE;
        context
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        let Self { ref frame, vectors, first_argument } = *self;
        Self { frame: frame.clone(), vectors, first_argument }
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
        self.frame.instruction -= 4; // SYSCALL
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

    pub(super) fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    pub(super) fn vectors_mut(&mut self) -> &mut Vectors {
        &mut self.vectors
    }
}
