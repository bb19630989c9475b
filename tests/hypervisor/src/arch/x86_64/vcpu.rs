//! A virtual processor: into the guest and out of it, by VMRUN.

use core::arch::x86_64::__cpuid;
use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::SeqCst;

use kvma::guest::Access;
use kvma_machine::memory_map::KERNEL_VIRT;
use kvma_machine::{CPUS, cpu};
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

use crate::arch::{DeviceAccess, Exit};
use crate::frames::{self, Owner};
use crate::program::Addresses;

global_asm!(
    r#"
    .text
    .global vcpu_enter
vcpu_enter:                             // rdi: the guest's registers, rsi: the control block
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov rax, rsi
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 40]
    mov rsi, [rdi + 48]
    mov rdi, [rdi + 56]
    clgi                                // no interrupt is taken between here and there
    vmrun rax
    stgi                                // the one that has ended the guest's run is
    push rdi
    mov rdi, [rsp + 8]
    mov [rdi + 8], rcx
    mov [rdi + 16], rdx
    mov [rdi + 24], rbx
    mov [rdi + 40], rbp
    mov [rdi + 48], rsi
    pop rax
    mov [rdi + 56], rax
    pop rdi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
"#
);

unsafe extern "C" {
    fn vcpu_enter(registers: *mut u64, control_block: u64);
}

/// True if a processor is to flush its TLB when it next enters a guest: the only time when it may.
static MUST_FLUSH: [AtomicBool; CPUS] = [const { AtomicBool::new(true) }; CPUS];

/// The page in which each processor keeps its own state while it runs a guest.
#[repr(align(4096))]
#[expect(dead_code, reason = "the processor uses it")]
struct SaveArea([u8; 4096]);
static mut SAVE_AREAS: [SaveArea; CPUS] = [const { SaveArea([0; 4096]) }; CPUS];

/// Prepares processor `number` for guests.
pub fn init(number: usize) {
    const HSAVE_PA: u32 = 0xc001_0117;
    let (svm, nested) = (__cpuid(0x8000_0001).ecx >> 2 & 1, __cpuid(0x8000_000a).edx & 1);
    assert!(svm == 1 && nested == 1, "this processor has no SVM with nested paging");
    let areas = (&raw const SAVE_AREAS).addr() + number * size_of::<SaveArea>();
    // SAFETY: turns SVM on, and gives the processor a page of its own.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
        Msr::new(HSAVE_PA).write(areas as u64 - KERNEL_VIRT);
    }
}

/// Has everything dropped that this processor has cached of any guest's second stage, before it
/// enters a guest again.
pub fn flush() {
    MUST_FLUSH[cpu::number()].store(true, SeqCst);
}

/// Called after an entry was written. A nested page fault leaves nothing in the TLB.
pub fn entry_written() {}

/// Fields of the control block (appendix B), by their offset.
mod field {
    /// Two words: interrupts and the like, instructions of SVM.
    pub const INTERCEPTS: u64 = 0x0c;
    /// Two words: the address-space identifier, and what to flush.
    pub const ADDRESS_SPACE: u64 = 0x58;
    pub const INTERRUPT_CONTROL: u64 = 0x60;
    pub const EXIT_CODE: u64 = 0x70;
    pub const EXIT_INFO_1: u64 = 0x78;
    pub const EXIT_INFO_2: u64 = 0x80;
    pub const NESTED_PAGING: u64 = 0x90;
    pub const NESTED_ROOT: u64 = 0xb0;
    pub const SEGMENTS: [u64; 4] = [0x400, 0x410, 0x420, 0x430];
    pub const CODE_SEGMENT: u64 = 0x410;
    pub const EFER: u64 = 0x4d0;
    pub const CR0: u64 = 0x558;
    pub const FLAGS: u64 = 0x570;
    pub const INSTRUCTION: u64 = 0x578;
    pub const RAX: u64 = 0x5f8;
    pub const PAGE_ATTRIBUTES: u64 = 0x668;
}

/// Reasons to leave the guest.
mod exit_code {
    pub const INTERRUPT: u64 = 0x60;
    pub const CALL: u64 = 0x81;
    pub const NESTED_FAULT: u64 = 0x400;
}

/// Registers by the number that instructions have for them.
const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RBP: usize = 5;
const RSI: usize = 6;

/// A virtual processor.
pub struct Vcpu {
    /// All registers but `rax` and `rsp`, whose places are not used.
    registers: [u64; 8],
    control_block: u64,
}

impl Vcpu {
    /// Makes a virtual processor that does nothing yet.
    pub fn new() -> Self {
        let Some(control_block) = frames::allocate(Owner::Host) else {
            panic!("no memory for a control block")
        };
        let vcpu = Self { registers: [0; 8], control_block };
        const INTERRUPTS: u64 = 1;
        const SHUTDOWN: u64 = 1 << 31;
        const VMRUN_AND_VMMCALL: u64 = 3;
        const OWN_INTERRUPT_FLAG: u64 = 1 << 24;
        vcpu.set(field::INTERCEPTS, INTERRUPTS | SHUTDOWN | VMRUN_AND_VMMCALL << 32);
        vcpu.set(field::INTERRUPT_CONTROL, OWN_INTERRUPT_FLAG);
        vcpu.set(field::NESTED_PAGING, 1);
        for segment in field::SEGMENTS {
            // Selector, attributes (32 bits, present, accessed), limit: all addresses.
            let attributes = if segment == field::CODE_SEGMENT { 0xc9b } else { 0xc93 };
            vcpu.set(segment, 8 | attributes << 16 | 0xffff_ffff << 32);
        }
        vcpu.set(field::EFER, EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE.bits());
        // Protected mode without paging.
        vcpu.set(field::CR0, 0x11);
        vcpu.set(field::FLAGS, 2);
        vcpu.set(field::PAGE_ATTRIBUTES, 0x0007_0406_0007_0406);
        vcpu
    }

    fn get(&self, field: u64) -> u64 {
        // SAFETY: inside the control block, which is this value's.
        unsafe { kvma_machine::direct::<u64>(self.control_block + field).read_unaligned() }
    }

    fn set(&self, field: u64, value: u64) {
        // SAFETY: as above. The processor looks at it in VMRUN alone.
        unsafe { kvma_machine::direct::<u64>(self.control_block + field).write_unaligned(value) };
    }

    /// Makes it begin a routine.
    pub fn begin(&mut self, routine: Addresses, arguments: [u32; 4]) {
        self.registers = [0; 8];
        for (register, argument) in [RSI, RBX, RCX, RDX].into_iter().zip(arguments) {
            self.registers[register] = u64::from(argument);
        }
        self.redirect(routine.begin);
    }

    /// Returns the result of a routine that is over, `None` if its access was refused.
    pub fn result(&self) -> Option<u32> {
        (self.registers[RBP] == 0).then_some(self.get(field::RAX) as u32)
    }

    /// Returns the guest's address of the next instruction.
    pub fn instruction(&self) -> u64 {
        self.get(field::INSTRUCTION)
    }

    /// Sends it elsewhere.
    pub fn redirect(&mut self, to: u64) {
        self.set(field::INSTRUCTION, to);
    }

    /// Runs the guest with this second stage until there is something to do.
    pub fn run(&mut self, root: u64, guest: usize) -> Exit {
        const FLUSH_ALL: u64 = 1 << 32;
        self.set(field::NESTED_ROOT, root);
        // A request that comes after this ends the guest's run at once: see VMRUN's interrupts.
        kvma_machine::interrupts::disable();
        let must_flush = MUST_FLUSH[cpu::number()].swap(false, SeqCst);
        let tlb = if must_flush { FLUSH_ALL } else { 0 };
        self.set(field::ADDRESS_SPACE, (guest as u64 + 1) | tlb);
        // SAFETY: the second stage shows the guest what is its own. `vcpu_enter` comes back with
        // all registers that Rust wants kept. With the global interrupt flag clear, the flag that
        // is set here has no effect before VMRUN, which takes it for whether interrupts end it.
        unsafe {
            asm!("clgi", "sti", options(nostack));
            vcpu_enter(self.registers.as_mut_ptr(), self.control_block);
        }
        let (code, error) = (self.get(field::EXIT_CODE), self.get(field::EXIT_INFO_1));
        let gpa = self.get(field::EXIT_INFO_2);
        match code {
            exit_code::CALL => Exit::Call,
            exit_code::INTERRUPT => Exit::Interrupt,
            exit_code::NESTED_FAULT => {
                const WRITE: u64 = 1 << 1;
                const FETCH: u64 = 1 << 4;
                let access = match (error & WRITE != 0, error & FETCH != 0) {
                    (true, _) => Access::WRITE,
                    (_, true) => Access::FETCH,
                    _ => Access::READ,
                };
                Exit::Fault { gpa, access }
            }
            _ => panic!("exit {code:#x} at {:#x}: {error:#x}, {gpa:#x}", self.instruction()),
        }
    }

    /// Returns what the access to a device wants, whose instruction is this: MOV between EAX or
    /// another register and the address in a register.
    pub fn device_access(&self, instruction: u32) -> DeviceAccess {
        match instruction & 0xff {
            0x8b => DeviceAccess::Load,
            0x89 => DeviceAccess::Store(match register_of(instruction) {
                RAX => self.get(field::RAX) as u32,
                register => self.registers[register] as u32,
            }),
            _ => panic!("an access to a device by {instruction:#x}"),
        }
    }

    /// Goes on after an access to a device, with what was loaded.
    pub fn complete(&mut self, instruction: u32, loaded: Option<u32>) {
        if let Some(value) = loaded {
            match register_of(instruction) {
                RAX => self.set(field::RAX, u64::from(value)),
                register => self.registers[register] = u64::from(value),
            }
        }
        // The opcode, and a byte that names two registers and no displacement.
        self.redirect(self.instruction() + 2);
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        frames::free(self.control_block);
    }
}

/// Returns the register of a MOV that is not an address.
fn register_of(instruction: u32) -> usize {
    (instruction >> 11 & 7) as usize
}
