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
    li t0, 1 << 7                       # hstatus.SPV: SRET leads into the guest,
    csrs hstatus, t0
    li t0, {previous}                   # and sstatus.SPP into the mode that it was in; its floating
    csrc sstatus, t0                    # point is on
    ld t0, {cause}+32(a0)
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
    csrr t0, htinst
    sd t0, {cause}+24(a0)
    csrr t0, sstatus
    li t1, {previous} | {floating_point}
    and t0, t0, t1
    sd t0, {cause}+32(a0)
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
    previous = const SPP,
    floating_point = const FLOATING_POINT,
);

/// Of `sstatus`: the mode before a trap, and the state of floating point, all bits of which let the
/// guest use it. The hypervisor has none.
pub(super) const SPP: u64 = 1 << 8;
pub(super) const FLOATING_POINT: u64 = 3 << 13;

unsafe extern "C" {
    fn vcpu_enter(vcpu: *mut Vcpu);
}

/// A virtual hart.
#[repr(C)]
pub struct Vcpu {
    /// The address of the next instruction in the place of `x0`, then `x1` to `x31`.
    pub(super) registers: [u64; 32],
    /// Why it has left the guest: `scause`, `stval`, `htval`, `htinst`.
    cause: u64,
    pub(super) value: u64,
    guest_value: u64,
    pub(super) instruction: u64,
    /// [`SPP`] and [`FLOATING_POINT`].
    pub(super) status: u64,
    /// The traps that the guest handles itself: `hedeleg` and `hideleg`.
    pub(super) delegated: [u64; 2],
    /// The hypervisor's `sp`, `gp`, `tp` and `stvec`.
    host: [u64; 4],
}

/// Registers by their number.
pub(super) const PC: usize = 0;
pub(super) const A0: usize = 10;
pub(super) const A1: usize = 11;
const A5: usize = 15;

/// Values of `scause`.
mod cause {
    pub const CALL: u64 = 10;
    pub const FETCH: u64 = 20;
    pub const LOAD: u64 = 21;
    pub const STORE: u64 = 23;
    pub const INTERRUPT: u64 = 1 << 63;
}

/// Values of `htinst` for the hart's accesses to the guest's page tables.
const TABLE_LOAD: u64 = 0x3000;
const TABLE_STORE: u64 = 0x3020;

/// Parts of a load's or a store's instruction. `htinst` has a compressed one in the same form, but
/// for a bit.
const OPCODE: u32 = 0x7d;
const LOAD: u32 = 0x01;
const STORE: u32 = 0x21;
const UNCOMPRESSED: u32 = 2;
const WIDTH: u32 = 7 << 12;
const BYTE: u32 = 0;
const WORD: u32 = 2 << 12;
const UNSIGNED_BYTE: u32 = 4 << 12;
const UNSIGNED_WORD: u32 = 6 << 12;

/// Prepares this hart for guests, which may read the clock and have a timer (the extension Sstc).
pub fn init() {
    const COUNTERS: u64 = 7;
    const STCE: u64 = 1 << 63;
    // SAFETY: registers that concern guests alone.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "csrw hcounteren, {}",
            "csrw 0x60a, {}",               // henvcfg
            "csrw vsatp, zero",
            ".option pop",
            in(reg) COUNTERS,
            in(reg) STCE,
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
        Self {
            registers: [0; 32],
            cause: 0,
            value: 0,
            guest_value: 0,
            instruction: 0,
            status: SPP,
            delegated: [0; 2],
            host: [0; 4],
        }
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
                "csrw hedeleg, {}",
                "csrw hideleg, {}",
                ".option pop",
                in(reg) stage2,
                in(reg) self.delegated[0],
                in(reg) self.delegated[1],
                options(nostack)
            );
            vcpu_enter(self);
        }
        kvma_machine::interrupts::enable();
        let gpa = self.guest_value << 2 | self.value & 3;
        match self.cause {
            cause::CALL => Exit::Call,
            // Not the access itself: the hart's own, to a table of the guest's.
            cause::FETCH | cause::LOAD | cause::STORE if self.instruction == TABLE_STORE => {
                Exit::Fault { gpa: self.guest_value << 2, access: Access::WRITE }
            }
            cause::FETCH | cause::LOAD | cause::STORE if self.instruction == TABLE_LOAD => {
                Exit::Fault { gpa: self.guest_value << 2, access: Access::READ }
            }
            cause::FETCH => Exit::Fault { gpa, access: Access::FETCH },
            cause::LOAD => Exit::Fault { gpa, access: Access::READ },
            cause::STORE => Exit::Fault { gpa, access: Access::WRITE },
            cause if cause & cause::INTERRUPT != 0 => Exit::Interrupt,
            cause => panic!("the guest's trap {cause} at {:#x}: {gpa:#x}", self.registers[PC]),
        }
    }

    /// Returns what the access to a device wants, whose instruction is this.
    pub fn device_access(&self, instruction: u32) -> DeviceAccess {
        match (instruction & OPCODE, instruction & WIDTH) {
            (LOAD, BYTE | WORD | UNSIGNED_BYTE | UNSIGNED_WORD) => DeviceAccess::Load,
            (STORE, BYTE | WORD) => {
                DeviceAccess::Store(self.registers[(instruction >> 20 & 31) as usize] as u32)
            }
            _ => panic!("an access to a device by {instruction:#x}"),
        }
    }

    /// Goes on after an access to a device, with what was loaded.
    pub fn complete(&mut self, instruction: u32, loaded: Option<u32>) {
        let register = (instruction >> 7 & 31) as usize;
        if let Some(value) = loaded
            && register != 0
        {
            self.registers[register] = match instruction & WIDTH {
                BYTE => i64::from(value as i8) as u64,
                UNSIGNED_BYTE => u64::from(value as u8),
                UNSIGNED_WORD => u64::from(value),
                _ => i64::from(value as i32) as u64,
            };
        }
        self.registers[PC] += if instruction & UNCOMPRESSED == 0 { 2 } else { 4 };
    }
}
