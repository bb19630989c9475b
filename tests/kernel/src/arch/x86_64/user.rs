//! Ring 3: the way out of it, by system calls and traps, and the way back.
//!
//! Both ways out end on the thread's kernel stack, with all registers in a [`UserContext`] at its
//! top. Traps come on a stack of the processor's (see `traps`), so they first move what the
//! processor has pushed there to the thread's stack, which may sleep.
//!
//! There is one way back, IRETQ, whatever the way out was: it restores all registers, as a signal's
//! return and a new thread need it.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU64, AtomicUsize};

use kvma_machine::CPUS;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{
    Efer, EferFlags, FsBase, GsBase, KernelGsBase, LStar, Msr, SFMask,
};
use x86_64::registers::rflags::RFlags;

use super::traps::{TrapFrame, USER_CODE, USER_DATA};
use crate::arch::Left;
use crate::arch::kernel_stack::KernelStack;

global_asm!(
    r#"
    .text
    .global syscall_entry, trap_from_user, leave_to_user, switch_stacks
syscall_entry:                          // rcx: where the program goes on, r11: its flags
    swapgs
    mov gs:[{scratch}], rsp
    mov rsp, gs:[{stack}]
    push {user_data}
    push gs:[{scratch}]
    swapgs
    push r11
    push {user_code}
    push rcx
    push 0
    push {system_call}
    jmp 1f

trap_from_user:                         // rsp: vector, error, and what the processor has pushed
    swapgs
    mov gs:[{scratch}], rax
    mov rax, rsp
    mov rsp, gs:[{stack}]
    push [rax + 48]
    push [rax + 40]
    push [rax + 32]
    push [rax + 24]
    push [rax + 16]
    push [rax + 8]
    push [rax]
    mov rax, gs:[{scratch}]
    swapgs

1:  .irp r, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    push \r
    .endr
    sub rsp, 512
    fxsave64 [rsp]
    cld
    xor ebp, ebp
    mov rdi, rsp
    call left_user

leave_to_user:                          // rsp: a UserContext; a new thread comes interruptible
    cli                                 // as everywhere; IRETQ takes what it needs at once
    fxrstor64 [rsp]
    add rsp, 512
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    pop \r
    .endr
    add rsp, 16
    iretq

switch_stacks:                          // rdi: where to leave this stack, rsi: the other stack
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .section .text.user_probes, "ax"    // a page of its own: see `crate::user::probe`
    .p2align 12
    .global user_probe_load, user_probe_store
user_probe_load:
    mov rax, [rsp]
    syscall
user_probe_store:
    mov [rsp], rax
    syscall
    .p2align 12
    .text
"#,
    scratch = const offset_of!(PerCpu, scratch),
    stack = const offset_of!(PerCpu, stack),
    user_data = const USER_DATA,
    user_code = const USER_CODE,
    system_call = const SYSTEM_CALL,
);

/// The vector of a [`TrapFrame`] that a system call has made.
const SYSTEM_CALL: u64 = 0x100;

/// The values that the entry code needs, one set for each processor.
#[repr(C)]
struct PerCpu {
    scratch: AtomicU64,
    /// The top of the kernel stack of the thread that runs.
    stack: AtomicUsize,
}

static PER_CPU: [PerCpu; CPUS] =
    [const { PerCpu { scratch: AtomicU64::new(0), stack: AtomicUsize::new(0) } }; CPUS];

/// All registers of a thread that has left ring 3.
#[repr(C, align(16))]
pub struct UserContext {
    /// The registers as FXSAVE leaves them.
    vectors: [u8; 512],
    frame: TrapFrame,
}

/// Prepares processor `number` for ring 3.
pub fn init(number: usize) {
    const STAR: u32 = 0xc000_0081;
    unsafe extern "C" {
        fn syscall_entry();
    }
    let entry = VirtAddr::from_ptr(syscall_entry as *const ());
    // SAFETY: SYSCALL enters at the code above with the kernel's segments (0x08, 0x10) and with
    // interrupts off. It finds this processor's part of `PER_CPU` by SWAPGS, and nothing else in
    // this kernel uses GS.
    unsafe {
        Efer::update(|flags| flags.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
        Msr::new(STAR).write(0x08 << 32);
        LStar::write(entry);
        SFMask::write(
            RFlags::INTERRUPT_FLAG
                | RFlags::DIRECTION_FLAG
                | RFlags::TRAP_FLAG
                | RFlags::NESTED_TASK
                | RFlags::ALIGNMENT_CHECK,
        );
        KernelGsBase::write(VirtAddr::from_ptr(&raw const PER_CPU[number]));
    }
}

/// Entered from the code above, on the thread's stack, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn left_user(context: &mut UserContext) {
    let left = match context.frame.vector() {
        SYSTEM_CALL => Left::SystemCall,
        vector => super::traps::from_user(&context.frame, vector),
    };
    crate::user::left_user(context, left);
}

/// Runs `enter`, which goes to user mode and comes back by a trap on this stack. Interrupts are
/// off, and user mode is not interrupted either.
pub fn once_on(stack: &KernelStack, enter: impl FnOnce()) {
    let ours = &PER_CPU[crate::arch::cpu::number()].stack;
    let outer = ours.swap(stack.top(), Relaxed);
    enter();
    ours.store(outer, Relaxed);
}

/// The state of a thread that is not at the top of its kernel stack.
#[derive(Debug, Default)]
pub struct ThreadRegisters {
    /// The bases of FS, where programs keep thread-local variables, and of GS.
    pub fs: AtomicU64,
    pub gs: AtomicU64,
}

impl ThreadRegisters {
    /// Takes over what the program has changed without asking: nothing, as it has to ask.
    pub fn save(&self) {}

    /// Makes them those of this processor, whose thread has its kernel stack at `stack`.
    pub fn load(&self, stack: &KernelStack) {
        PER_CPU[crate::arch::cpu::number()].stack.store(stack.top(), Relaxed);
        FsBase::write(VirtAddr::new_truncate(self.fs.load(Relaxed)));
        GsBase::write(VirtAddr::new_truncate(self.gs.load(Relaxed)));
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        let copy = |register: &AtomicU64| AtomicU64::new(register.load(Relaxed));
        Self { fs: copy(&self.fs), gs: copy(&self.gs) }
    }

    /// Makes them those of a new program.
    pub fn clear(&self) {
        self.fs.store(0, Relaxed);
        self.gs.store(0, Relaxed);
    }

    /// Sets where the thread keeps its variables.
    pub fn set_thread_area(&self, _context: &mut UserContext, address: u64) {
        self.fs.store(address, Relaxed);
    }
}

/// The words that `switch_stacks` takes off a stack, and which of them is the address to which it
/// returns.
pub const SWITCHED: usize = 7;
pub const RETURNS_TO: usize = 6;

impl UserContext {
    /// Returns the registers of a program that starts.
    pub fn new(entry: u64, stack: u64) -> Self {
        let mut vectors = [0; 512];
        vectors[..2].copy_from_slice(&0x37fu16.to_le_bytes()); // x87: all exceptions masked
        vectors[24..28].copy_from_slice(&0x1f80u32.to_le_bytes()); // MXCSR: likewise
        Self { vectors, frame: TrapFrame::for_user(entry, stack) }
    }

    /// Returns the registers of code that is not interrupted.
    pub fn without_interrupts(entry: u64, stack: u64) -> Self {
        let mut context = Self::new(entry, stack);
        context.frame.turn_interrupts_off();
        context
    }

    /// Returns a copy, for a new thread.
    pub fn duplicate(&self) -> Self {
        Self { vectors: self.vectors, frame: self.frame.clone() }
    }

    /// Returns the number of the system call.
    pub fn call_number(&self) -> u64 {
        self.frame.registers()[Register::Rax as usize]
    }

    /// Returns the arguments of the system call.
    pub fn call_arguments(&self) -> [u64; 6] {
        use Register::{R8, R9, R10, Rdi, Rdx, Rsi};
        [Rdi, Rsi, Rdx, R10, R8, R9].map(|register| self.frame.registers()[register as usize])
    }

    /// Sets the answer of the system call.
    pub fn answer(&mut self, value: u64) {
        self.frame.registers_mut()[Register::Rax as usize] = value;
    }

    /// Lets the program make the system call `number` again when it goes on.
    pub fn repeat_call(&mut self, number: u64) {
        self.frame.instruction -= 2; // SYSCALL
        self.answer(number);
    }

    pub fn instruction(&self) -> u64 {
        self.frame.instruction
    }

    pub fn stack_pointer(&self) -> u64 {
        self.frame.stack()
    }

    pub fn set_stack_pointer(&mut self, stack: u64) {
        self.frame.set_stack(stack);
    }

    /// Returns the state of the vector unit, as FXSAVE leaves it.
    pub fn vectors(&self) -> &[u8; 512] {
        &self.vectors
    }

    pub fn frame(&self) -> &TrapFrame {
        &self.frame
    }

    pub fn frame_mut(&mut self) -> &mut TrapFrame {
        &mut self.frame
    }

    /// Takes vector registers over from memory of the program.
    pub fn set_vectors(&mut self, vectors: [u8; 512]) {
        self.vectors = vectors;
        // FXRSTOR refuses reserved bits of MXCSR with a fault, which would be the kernel's.
        let mxcsr = u32::from_le_bytes([vectors[24], vectors[25], vectors[26], vectors[27]]);
        self.vectors[24..28].copy_from_slice(&(mxcsr & 0xffbf).to_le_bytes());
    }
}

/// The places of registers in [`TrapFrame::registers`], which were pushed in the opposite order.
#[derive(Clone, Copy)]
pub enum Register {
    R15,
    R14,
    R13,
    R12,
    R11,
    R10,
    R9,
    R8,
    Rbp,
    Rdi,
    Rsi,
    Rdx,
    Rcx,
    Rbx,
    Rax,
}
