//! A virtual hart for an operating system, which needs more than a routine does: the guest's own
//! supervisor mode, with its paging, its traps and its timer.

use core::arch::asm;

use super::vcpu::{A0, A1, FLOATING_POINT, PC, SPP, Vcpu};

/// The traps that the guest handles itself: misaligned fetches, illegal instructions, breakpoints,
/// misaligned loads and stores, calls of its user mode, page faults of its own tables.
const EXCEPTIONS: u64 = 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 8 | 0b1011 << 12;
/// And its interrupts: by software, of the timer, of devices.
const INTERRUPTS: u64 = 1 << 2 | 1 << 6 | 1 << 10;

/// Of `hvip`: the guest's software interrupt.
const SOFTWARE: u64 = 1 << 2;

/// Exceptions, as the guest's `scause` has them.
#[derive(Clone, Copy)]
pub enum Exception {
    FetchAccess = 1,
    LoadAccess = 5,
    StoreAccess = 7,
}

/// Returns the guest's supervisor mode on this hart to what it is after a reset.
pub fn reset() {
    const USER_64_BIT: u64 = 2 << 32;
    // SAFETY: registers that concern guests alone.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "csrw vsstatus, {status}",
            "csrw vsie, zero",
            "csrw vstvec, zero",
            "csrw vsscratch, zero",
            "csrw vsepc, zero",
            "csrw vscause, zero",
            "csrw vstval, zero",
            "csrw vsatp, zero",
            "csrw hvip, zero",
            "hfence.vvma",
            ".option pop",
            status = in(reg) USER_64_BIT,
            options(nostack)
        );
    }
    set_timer(u64::MAX);
}

/// Sets the time of the guest's next interrupt by its timer.
pub fn set_timer(at: u64) {
    // SAFETY: `vstimecmp`.
    unsafe { asm!("csrw 0x24d, {}", in(reg) at, options(nostack)) };
}

/// Interrupts the guest.
pub fn interrupt() {
    // SAFETY: a register that concerns the guest alone.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "csrs hvip, {}",
            ".option pop",
            in(reg) SOFTWARE,
            options(nostack)
        );
    }
}

/// Drops what this hart has cached of the guest's own tables, and of its instructions.
pub fn flush() {
    // SAFETY: drops what the hart can load again.
    unsafe {
        asm!(
            ".option push",
            ".option arch, +h",
            "hfence.vvma",
            ".option pop",
            "fence.i",
            options(nostack)
        );
    }
}

impl Vcpu {
    /// Makes it begin a kernel with its device tree, in the guest's supervisor mode.
    pub fn begin_kernel(&mut self, entry: u64, tree: u64) {
        self.registers = [0; 32];
        self.registers[PC] = entry;
        // The number of the hart.
        self.registers[A0] = 0;
        self.registers[A1] = tree;
        self.status = SPP | FLOATING_POINT;
        self.delegated = [EXCEPTIONS, INTERRUPTS];
    }

    /// Returns the call of the hypervisor that the guest has made: extension, function, arguments.
    pub fn call(&self) -> (u64, u64, [u64; 3]) {
        let [first, second, third] = [0, 1, 2].map(|number| self.registers[A0 + number]);
        (self.registers[A0 + 7], self.registers[A0 + 6], [first, second, third])
    }

    /// Goes on after a call of the hypervisor.
    pub fn answer(&mut self, error: i64, value: u64) {
        self.registers[A0] = error as u64;
        self.registers[A1] = value;
        self.registers[PC] += 4;
    }

    /// Makes the guest handle an exception of the instruction that has faulted.
    pub fn raise(&mut self, exception: Exception) {
        const INTERRUPTS_ON: u64 = 1 << 1;
        const WERE_ON: u64 = 1 << 5;
        let (mut status, handler): (u64, u64);
        // SAFETY: what the hart does when the guest traps to itself.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "csrr {status}, vsstatus",
                "csrr {handler}, vstvec",
                "csrw vsepc, {at}",
                "csrw vscause, {cause}",
                "csrw vstval, {value}",
                ".option pop",
                status = out(reg) status,
                handler = out(reg) handler,
                at = in(reg) self.registers[PC],
                cause = in(reg) exception as u64,
                value = in(reg) self.value,
                options(nostack)
            );
        }
        let were_on = if status & INTERRUPTS_ON == 0 { 0 } else { WERE_ON };
        status = status & !(INTERRUPTS_ON | WERE_ON | SPP) | were_on | self.status & SPP;
        // SAFETY: as above.
        unsafe {
            asm!(
                ".option push",
                ".option arch, +h",
                "csrw vsstatus, {}",
                ".option pop",
                in(reg) status,
                options(nostack)
            );
        }
        self.status |= SPP;
        self.registers[PC] = handler & !3;
    }
}
