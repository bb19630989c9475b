//! Starts the second processor: INIT, then SIPI (AMD64 Architecture Programmer's Manual, volume 2,
//! section 15.27).
//!
//! It wakes up in 16-bit mode at a page below 1 MiB, so a few instructions are copied there. They
//! lead to the entry code that the first processor has come through.

use super::{apic, timer};
use crate::memory_map::DIRECT_MAP;

/// The page to which the 16-bit code is copied. Neither QEMU's start info nor this kernel uses it.
const TRAMPOLINE: u64 = 0x8000;
const PAGE: u64 = 4096;

core::arch::global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .global trampoline_start, trampoline_end
    .code16
trampoline_start:
    cli
    cld
    xor ax, ax
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        // lgdt, 32-bit operand, from a 16-bit address:
    .word 0x8000 + trampoline_gdt - trampoline_start
    mov eax, cr0
    or eax, 1                           // PE
    mov cr0, eax
    .byte 0x66, 0xea                    // jmp 0x18:boot_second
    .long boot_second
    .word 0x18
trampoline_gdt:
    .word 31
    .long boot_gdt
trampoline_end:

    .section .boot
    .code32
boot_second:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esi, 1                          // a third processor stops here
    lock xadd [boot_seconds], esi
    cmp esi, 1
    jne 1f
    mov eax, offset boot_enter_long     // the assembler mistranslates a direct 32-bit jump to it
    jmp eax
1:  hlt
    jmp 1b
    .align 4
boot_seconds:                           // the number of the next processor
    .long 1
    .code64
    .text
"#
);

/// Sends the second processor to `second_main`, and repeats that until `is_up` returns true.
///
/// # Safety
///
/// `second_main` must be ready to run. Must be called once.
pub unsafe fn start(is_up: impl Fn() -> bool) {
    unsafe extern "C" {
        static trampoline_start: u8;
        static trampoline_end: u8;
    }
    let (code, end) = (&raw const trampoline_start, &raw const trampoline_end);
    let target: *mut u8 =
        core::ptr::with_exposed_provenance_mut((DIRECT_MAP + TRAMPOLINE) as usize);
    // SAFETY: the code lies between the two symbols and is shorter than the page, which nothing
    // else uses.
    unsafe { core::ptr::copy_nonoverlapping(code, target, end.addr() - code.addr()) };
    apic::init_others();
    timer::delay_microseconds(200);
    while !is_up() {
        // A processor that runs already ignores it.
        apic::start_others((TRAMPOLINE / PAGE) as u8);
        timer::delay_microseconds(1000);
    }
}
