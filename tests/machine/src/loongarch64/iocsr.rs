//! The registers through which processors interrupt each other and send each other words (Loongson
//! 3A5000/3B5000 Processor Reference Manual, section 10.2).

use core::arch::asm;

/// The interrupts that other processors have asked for; which of them reach this one; and the
/// register that ends them.
const STATUS: u64 = 0x1000;
const ENABLED: u64 = 0x1004;
const CLEAR: u64 = 0x100c;
/// Asks another processor for an interrupt.
const SEND_INTERRUPT: u64 = 0x1040;
/// Writes half of a mailbox of another processor.
const SEND_MAIL: u64 = 0x1048;

/// Returns only when the other processor has it.
const BLOCKING: u64 = 1 << 31;

fn read(register: u64) -> u32 {
    let value: u64;
    // SAFETY: reads a register of this processor.
    unsafe { asm!("iocsrrd.w {}, {}", out(reg) value, in(reg) register, options(nostack)) };
    value as u32
}

fn write(register: u64, value: u32) {
    // SAFETY: the registers above interrupt processors, and change nothing else. What was written
    // before is seen by them.
    unsafe {
        asm!("dbar 0", "iocsrwr.w {}, {}", in(reg) value, in(reg) register, options(nostack));
    }
}

/// Lets other processors interrupt this one.
pub fn enable() {
    write(ENABLED, u32::MAX);
}

/// Interrupts another processor.
pub fn interrupt(cpu: usize) {
    write(SEND_INTERRUPT, (BLOCKING | (cpu as u64) << 16) as u32);
}

/// Ends the interrupts by others.
pub fn end() {
    write(CLEAR, read(STATUS));
}

/// Writes a word to the first mailbox of another processor.
pub fn send_mail(cpu: usize, word: u64) {
    for (half, bits) in [(1u64, word >> 32), (0, word & u64::from(u32::MAX))] {
        let mail = BLOCKING | (cpu as u64) << 16 | half << 2 | bits << 32;
        // SAFETY: the other processor waits for the word, and reads it when it is interrupted.
        unsafe {
            asm!("dbar 0", "iocsrwr.d {}, {}", in(reg) mail, in(reg) SEND_MAIL, options(nostack));
        }
    }
}
