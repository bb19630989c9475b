//! A virtual hart: into the guest and out of it.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use kvma::guest::Access;

use crate::arch::{DeviceAccess, Exit};
use crate::program::Addresses;

global_asm!(
    r#"
    .option push
    .option arch, +h
    .text
    .global vcpu_enter
vcpu_enter:                             # a0: the virtual hart; interrupts are off
    addi sp, sp, -112
    sd ra, 0(sp)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
    sd s\n, 8+8*\n(sp)
    .endr
    sd sp, {host}(a0)
    sd gp, {host}+8(a0)
    sd tp, {host}+16(a0)
    csrr t0, stvec
    sd t0, {host}+24(a0)
    csrw sscratch, a0
    la t0, vcpu_exit
    csrw stvec, t0
    li t0, 1 << 7                       # hstatus.SPV, sstatus.SPP: SRET leads into the guest
    csrs hstatus, t0
    li t0, 1 << 8
    csrs sstatus, t0
    ld t0, 0(a0)
    csrw sepc, t0
    .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld x\n, 8*\n(a0)
    .endr
    ld a0, 80(a0)
    sret
    .align 2
vcpu_exit:
    csrrw a0, sscratch, a0
    .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    sd x\n, 8*\n(a0)
    .endr
    csrrw t0, sscratch, zero
    sd t0, 80(a0)
    csrr t0, sepc
    sd t0, 0(a0)
    csrr t0, scause
    sd t0, {cause}(a0)
    csrr t0, stval
    sd t0, {cause}+8(a0)
    csrr t0, htval
    sd t0, {cause}+16(a0)
    ld t0, {host}+24(a0)
    csrw stvec, t0
    ld sp, {host}(a0)
    ld gp, {host}+8(a0)
    ld tp, {host}+16(a0)
    ld ra, 0(sp)
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
    ld s\n, 8+8*\n(sp)
    .endr
    addi sp, sp, 112
    ret
    .option pop
"#,
    host = const offset_of!(Vcpu, host),
    cause = const offset_of!(Vcpu, cause),
);

unsafe extern "C" {
    fn vcpu_enter(vcpu: *mut Vcpu);
}

/// A virtual hart.
#[repr(C)]
pub struct Vcpu {
    /// The address of the next instruction in the place of `x0`, then `x1` to `x31`.
    registers: [u64; 32],
    /// Why it has left the guest: `scause`, `stval`, `htval`.
    cause: u64,
    value: u64,
    guest_value: u64,
    /// The hypervisor's `sp`, `gp`, `tp` and `stvec`.
    host: [u64; 4],
}

/// Registers by their number.
const PC: usize = 0;
const A0: usize = 10;
const A1: usize = 11;
const A5: usize = 15;

/// Values of `scause`.
mod cause {
    pub const CALL: u64 = 10;
    pub const FETCH: u64 = 20;
    pub const LOAD: u64 = 21;
    pub const STORE: u64 = 23;
    pub const INTERRUPT: u64 = 1 << 63;
}

/// Prepares this hart for guests: all of their traps are the hypervisor's.
pub fn init() {
    // SAFETY: registers that concern guests alone.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "csrw hedeleg, zero",
            "csrw hideleg, zero",
            "csrw hcounteren, zero",
            "csrw vsatp, zero",
            ".option pop",
            options(nostack)
        );
    }
}

/// Drops everything that this hart has cached of any guest's second stage.
pub fn flush() {
    // SAFETY: drops what the hart can load again.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "hfence.gvma zero, zero",
            ".option pop",
            options(nostack)
        );
    }
}

/// Called after an entry was written. The hart may have cached that there was none.
pub fn entry_written() {
    flush();
}

impl Vcpu {
    /// Makes a virtual hart that does nothing yet.
    pub const fn new() -> Self {
        Self { registers: [0; 32], cause: 0, value: 0, guest_value: 0, host: [0; 4] }
    }

    /// Makes it begin a routine.
    pub fn begin(&mut self, routine: Addresses, arguments: [u32; 4]) {
        self.registers = [0; 32];
        self.registers[PC] = routine.begin;
        for (number, argument) in arguments.into_iter().enumerate() {
            self.registers[A1 + number] = u64::from(argument);
        }
    }

    /// Returns the result of a routine that is over, `None` if its access was refused.
    pub fn result(&self) -> Option<u32> {
        (self.registers[A5] == 0).then_some(self.registers[A0] as u32)
    }

    /// Returns the guest's address of the next instruction.
    pub fn instruction(&self) -> u64 {
        self.registers[PC]
    }

    /// Sends it elsewhere.
    pub fn redirect(&mut self, to: u64) {
        self.registers[PC] = to;
    }

    /// Runs the guest with this second stage until there is something to do.
    pub fn run(&mut self, root: u64, guest: usize) -> Exit {
        /// Sv39x4.
        const MODE: u64 = 8 << 60;
        let stage2 = MODE | (guest as u64 + 1) << 44 | root >> 12;
        kvma_machine::interrupts::disable();
        // SAFETY: the second stage shows the guest what is its own. `vcpu_enter` comes back with
        // all registers that Rust wants kept.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "csrw hgatp, {}",
                ".option pop",
                in(reg) stage2,
                options(nostack)
            );
            vcpu_enter(self);
        }
        kvma_machine::interrupts::enable();
        let gpa = self.guest_value << 2 | self.value & 3;
        match self.cause {
            cause::CALL => Exit::Call,
            cause::FETCH => Exit::Fault { gpa, access: Access::FETCH },
            cause::LOAD => Exit::Fault { gpa, access: Access::READ },
            cause::STORE => Exit::Fault { gpa, access: Access::WRITE },
            cause if cause & cause::INTERRUPT != 0 => Exit::Interrupt,
            cause => panic!("the guest's trap {cause} at {:#x}: {gpa:#x}", self.registers[PC]),
        }
    }

    /// Returns what the access to a device wants, whose instruction is this: LW or SW.
    pub fn device_access(&self, instruction: u32) -> DeviceAccess {
        const MASK: u32 = 0x707f;
        match instruction & MASK {
            0x2003 => DeviceAccess::Load,
            0x2023 => DeviceAccess::Store(self.registers[(instruction >> 20 & 31) as usize] as u32),
            _ => panic!("an access to a device by {instruction:#x}"),
        }
    }

    /// Goes on after an access to a device, with what was loaded.
    pub fn complete(&mut self, instruction: u32, loaded: Option<u32>) {
        let register = (instruction >> 7 & 31) as usize;
        if let Some(value) = loaded
            && register != 0
        {
            self.registers[register] = i64::from(value as i32) as u64;
        }
        self.registers[PC] += 4;
    }
}
