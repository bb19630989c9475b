//! The processor's number, its root table and its TLB.
//!
//! The two halves of the address space have a root register each. Both point into one table, the
//! second to its upper half, so that tables look as on other architectures. Each half has 47 bits.

use core::arch::asm;

/// The entries of the upper half begin here.
const UPPER_HALF: u64 = 256 * 8;

/// Returns the number of the calling processor, which the entry code has left in a register.
pub fn number() -> usize {
    let number;
    // SAFETY: reads a register that nothing else in this kernel uses.
    unsafe {
        asm!("mrs {}, tpidr_el1", out(reg) number, options(nomem, nostack, preserves_flags));
    }
    number
}

/// Makes `root` the top page table, and drops every TLB entry. Use [`crate::cpus::set_root`], which
/// keeps account.
///
/// # Safety
///
/// `root` must be a page table that maps the running code, its stack and the direct map as they are
/// mapped now.
pub unsafe fn set_root(root: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "dsb ishst",
            "msr ttbr0_el1, {}",
            "msr ttbr1_el1, {}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            in(reg) root,
            in(reg) root + UPPER_HALF,
            options(nostack),
        );
    }
}

/// Returns the physical address of the top page table.
pub fn root() -> u64 {
    let root;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, ttbr0_el1", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root
}

/// Drops the TLB entry of the page that holds `address`.
pub fn flush_page(address: u64) {
    let page = (address >> 12) & ((1 << 44) - 1);
    // SAFETY: drops what the processor can load again.
    unsafe {
        asm!("dsb ishst", "tlbi vaae1, {}", "dsb nsh", "isb", in(reg) page, options(nostack));
    }
}

/// Drops every TLB entry.
pub fn flush_all() {
    // SAFETY: as above.
    unsafe { asm!("dsb ishst", "tlbi vmalle1", "dsb nsh", "isb", options(nostack)) };
}

/// Called after an entry was written, so that the next access finds it.
pub fn entry_written() {
    // SAFETY: waits, and changes nothing.
    unsafe { asm!("dsb ishst", "isb", options(nostack)) };
}

/// Makes instructions that were written to memory be fetched by every processor.
pub fn sync_instructions() {
    // SAFETY: drops what processors can load again.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack)) };
}
