//! A virtual processor: into the guest and out of it.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use kvma::guest::Access;

use crate::arch::{DeviceAccess, Exit};
use crate::program::Addresses;

global_asm!(
    r#"
    .text
    .global vcpu_enter, vcpu_exit
vcpu_enter:                             // x0: the virtual processor; interrupts are off
    stp x19, x20, [sp, #-96]!
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    mov x1, sp
    mrs x2, tpidr_el1                   // the number of the processor
    stp x1, x2, [x0, #{host}]
    msr tpidr_el2, x0
    ldp x1, x2, [x0, #{instruction}]
    msr elr_el2, x1
    msr spsr_el2, x2
    .irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    ldr x\n, [x0, #8*\n]
    .endr
    ldr x0, [x0]
    eret
vcpu_exit:                              // x0: the kind; the guest's x0 lies on the stack
    str x1, [sp, #8]
    mrs x1, tpidr_el2
    str x0, [x1, #{kind}]
    ldr x0, [sp]
    str x0, [x1]
    ldr x0, [sp, #8]
    str x0, [x1, #8]
    mov x0, x1
    .irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    str x\n, [x0, #8*\n]
    .endr
    mrs x1, elr_el2
    mrs x2, spsr_el2
    stp x1, x2, [x0, #{instruction}]
    mrs x1, esr_el2
    mrs x2, far_el2
    stp x1, x2, [x0, #{kind} + 8]
    mrs x1, hpfar_el2
    str x1, [x0, #{kind} + 24]
    ldp x1, x2, [x0, #{host}]
    msr tpidr_el1, x2
    mov sp, x1
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp x19, x20, [sp], #96
    ret
"#,
    instruction = const offset_of!(Vcpu, instruction),
    kind = const offset_of!(Vcpu, kind),
    host = const offset_of!(Vcpu, host),
);

unsafe extern "C" {
    fn vcpu_enter(vcpu: *mut Vcpu);
}

/// A virtual processor.
#[repr(C)]
pub struct Vcpu {
    registers: [u64; 31],
    instruction: u64,
    status: u64,
    /// The hypervisor's stack pointer, and what it keeps in the guest's `tpidr_el1`.
    host: [u64; 2],
    /// Why it has left the guest.
    kind: u64,
    syndrome: u64,
    address: u64,
    page: u64,
}

/// Kinds of exits, as the vectors have them.
const EXCEPTION: u64 = 0;
const INTERRUPT: u64 = 1;

/// The hypervisor configuration register: the host extensions and 64 bits; in the hypervisor all
/// of level 0's is its own; in a guest there is a second stage, and interrupts lead out of it.
const HOST: u64 = 1 << 34 | 1 << 31 | 1 << 27;
const GUEST: u64 = 1 << 34 | 1 << 31 | 1 | 7 << 3;

/// Prepares this processor for guests.
pub fn init() {
    /// Addresses of 39 bits from level 1 on, tables in caches, 4 KiB, machine addresses of 40 bits.
    const VTCR: u64 = 25 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16 | 1 << 31;
    // SAFETY: registers that concern guests alone. `sctlr_el12` is level 1's own: its reserved
    // bits that are one, and paging off.
    unsafe {
        asm!(
            "msr vtcr_el2, {}",
            "msr S3_5_C1_C0_0, {}", // sctlr_el12
            "isb",
            in(reg) VTCR,
            in(reg) 0x30d0_0800_u64,
            options(nostack)
        );
    }
}

/// Drops everything that this processor has cached of any guest's second stage.
pub fn flush() {
    // SAFETY: drops what the processor can load again.
    unsafe { asm!("dsb ishst", "tlbi alle1", "dsb nsh", "isb", options(nostack)) };
}

/// Called after an entry was written. One that has become larger, or allows more, may be cached as
/// it was.
pub fn entry_written() {
    flush();
}

/// The guest's level 1, on its own stack pointer, with all interrupts masked.
const LEVEL_1: u64 = 0x3c5;

impl Vcpu {
    /// Makes a virtual processor that does nothing yet.
    pub const fn new() -> Self {
        Self {
            registers: [0; 31],
            instruction: 0,
            status: LEVEL_1,
            host: [0; 2],
            kind: 0,
            syndrome: 0,
            address: 0,
            page: 0,
        }
    }

    /// Makes it begin a routine.
    pub fn begin(&mut self, routine: Addresses, arguments: [u32; 4]) {
        self.registers = [0; 31];
        self.instruction = routine.begin;
        for (number, argument) in arguments.into_iter().enumerate() {
            self.registers[1 + number] = u64::from(argument);
        }
    }

    /// Returns the result of a routine that is over, `None` if its access was refused.
    pub fn result(&self) -> Option<u32> {
        (self.registers[5] == 0).then_some(self.registers[0] as u32)
    }

    /// Returns the guest's address of the next instruction.
    pub fn instruction(&self) -> u64 {
        self.instruction
    }

    /// Sends it elsewhere.
    pub fn redirect(&mut self, to: u64) {
        self.instruction = to;
    }

    /// Runs the guest with this second stage until there is something to do.
    pub fn run(&mut self, root: u64, guest: usize) -> Exit {
        let stage2 = (guest as u64 + 1) << 48 | root;
        kvma_machine::interrupts::disable();
        // SAFETY: the second stage shows the guest what is its own. `vcpu_enter` comes back with
        // all registers that Rust wants kept.
        unsafe {
            asm!(
                "msr vttbr_el2, {}",
                "msr hcr_el2, {}",
                "isb",
                in(reg) stage2,
                in(reg) GUEST,
                options(nostack)
            );
            vcpu_enter(self);
            asm!("msr hcr_el2, {}", "isb", in(reg) HOST, options(nostack));
        }
        kvma_machine::interrupts::enable();
        match self.kind {
            INTERRUPT => Exit::Interrupt,
            EXCEPTION => self.exception(),
            kind => panic!("the guest's trap {kind}, syndrome {:#x}", self.syndrome),
        }
    }

    fn exception(&self) -> Exit {
        const CALL: u64 = 0x16;
        const FETCH: u64 = 0x20;
        const DATA: u64 = 0x24;
        const STORE: u64 = 1 << 6;
        let gpa = (self.page >> 4) << 12 | self.address & 0xfff;
        match self.syndrome >> 26 {
            CALL => Exit::Call,
            FETCH => Exit::Fault { gpa, access: Access::FETCH },
            DATA if self.syndrome & STORE != 0 => Exit::Fault { gpa, access: Access::WRITE },
            DATA => Exit::Fault { gpa, access: Access::READ },
            _ => panic!(
                "the guest's exception {:#x} at {:#x}: {gpa:#x}",
                self.syndrome, self.instruction
            ),
        }
    }

    /// Returns what the access to a device wants. The processor says it, so that the instruction
    /// need not be read.
    pub fn device_access(&self, instruction: u32) -> DeviceAccess {
        const VALID: u64 = 1 << 24;
        const STORE: u64 = 1 << 6;
        assert!(self.syndrome & VALID != 0, "an access to a device by {instruction:#x}");
        if self.syndrome & STORE == 0 {
            return DeviceAccess::Load;
        }
        // Number 31 is no register, but zero.
        let value = self.registers.get(self.transferred()).copied().unwrap_or(0);
        DeviceAccess::Store(value as u32)
    }

    /// Returns the number of the register that is loaded or stored.
    fn transferred(&self) -> usize {
        (self.syndrome >> 16 & 31) as usize
    }

    /// Goes on after an access to a device, with what was loaded.
    pub fn complete(&mut self, _instruction: u32, loaded: Option<u32>) {
        let register = self.transferred();
        if let Some(value) = loaded
            && let Some(register) = self.registers.get_mut(register)
        {
            *register = u64::from(value);
        }
        self.instruction += 4;
    }
}
