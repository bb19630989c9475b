//! The guest's program, and the mailbox by which the monitor tells it what to do.
//!
//! It runs in protected mode, with flat segments and without paging: its addresses are
//! guest-physical ones. It turns in a loop, and counts the turns, until there is a command.

use core::arch::global_asm;

/// The guest-physical address of the mailbox: words of 32 bits in the first RAM.
pub(crate) const MAILBOX: u64 = 0x1000;
/// The mailbox' words, as offsets: what the guest is to do (it writes 0 when that is done), where,
/// with which value or the value found, how often, and how many times it has turned.
pub(crate) const COMMAND: u64 = 0;
pub(crate) const ADDRESS: u64 = 4;
pub(crate) const VALUE: u64 = 8;
pub(crate) const COUNT: u64 = 12;
pub(crate) const TURNS: u64 = 16;

/// A command to the guest.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Command {
    /// Loads a word.
    Load = 1,
    /// Stores a word.
    Store = 2,
    /// Stores a word in each of `COUNT` pages.
    StorePages = 3,
    /// Adds one to a word, `COUNT` times.
    Add = 4,
    /// Stops the processor.
    Halt = 5,
}

const SIZE: usize = 0x100;

global_asm!(
    ".pushsection .rodata.guest, \"a\"",
    ".global KVMA_MONITOR_GUEST",
    ".code32",
    "KVMA_MONITOR_GUEST:",
    "    mov ebx, 0x1000", // MAILBOX
    "2:  inc dword ptr [ebx + 16]",
    // The command first: what belongs to it was there before it.
    "    mov eax, [ebx]",
    "    mov edx, [ebx + 4]",
    "    mov ecx, [ebx + 12]",
    "    cmp eax, 1",
    "    je 3f",
    "    cmp eax, 2",
    "    je 4f",
    "    cmp eax, 3",
    "    je 5f",
    "    cmp eax, 4",
    "    je 6f",
    "    cmp eax, 5",
    "    je 8f",
    "    jmp 2b",
    // Load.
    "3:  mov eax, [edx]",
    "    mov [ebx + 8], eax",
    "    jmp 7f",
    // Store.
    "4:  mov eax, [ebx + 8]",
    "    mov [edx], eax",
    "    jmp 7f",
    // StorePages.
    "5:  mov eax, [ebx + 8]",
    "    mov [edx], eax",
    "    add edx, 0x1000",
    "    dec ecx",
    "    jnz 5b",
    "    jmp 7f",
    // Add.
    "6:  inc dword ptr [edx]",
    "    dec ecx",
    "    jnz 6b",
    // Done.
    "7:  mov dword ptr [ebx], 0",
    "    jmp 2b",
    // Halt.
    "8:  mov dword ptr [ebx], 0",
    "    hlt",
    "    .org KVMA_MONITOR_GUEST + 0x100", // SIZE
    ".code64",
    ".popsection",
);

/// Returns the program, which may lie anywhere.
pub(crate) fn code() -> &'static [u8; SIZE] {
    unsafe extern "C" {
        static KVMA_MONITOR_GUEST: [u8; SIZE];
    }
    // SAFETY: so many bytes follow the symbol above, in a section that is never written to.
    unsafe { &KVMA_MONITOR_GUEST }
}
