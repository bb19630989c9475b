//! The processor's number, its root table and its TLB.
//!
//! The two halves of the address space have a root register each, which hold the same table: its
//! index goes on in the upper half. The TLB is filled by the handler in `entry`, also with entries
//! of pages that are absent. Whoever takes the fault of such a page flushes it, so that the next
//! access looks anew.

use core::arch::asm;

/// Returns the number of the calling processor.
pub fn number() -> usize {
    const NUMBER: usize = (1 << 9) - 1;
    let number: usize;
    // SAFETY: reads a register.
    unsafe { asm!("csrrd {}, 0x20", out(reg) number, options(nomem, nostack, preserves_flags)) };
    number & NUMBER
}

/// Makes `root` the top page table, and drops every TLB entry. Use [`crate::cpus::set_root`], which
/// keeps account.
///
/// # Safety
///
/// `root` must be a page table that maps the running code and its stack as they are mapped now.
pub unsafe fn set_root(root: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "dbar 0",
            "csrwr {}, 0x19",           // PGDL
            "csrwr {}, 0x1a",           // PGDH
            "invtlb 0, $zero, $zero",
            inout(reg) root => _,
            inout(reg) root => _,
            options(nostack),
        );
    }
}

/// Returns the physical address of the top page table.
pub fn root() -> u64 {
    let root;
    // SAFETY: reads a register.
    unsafe { asm!("csrrd {}, 0x19", out(reg) root, options(nomem, nostack, preserves_flags)) };
    root
}

/// Drops the TLB entry of the page that holds `address`.
pub fn flush_page(address: u64) {
    // SAFETY: drops what the processor can load again.
    unsafe { asm!("dbar 0", "invtlb 6, $zero, {}", in(reg) address, options(nostack)) };
}

/// Drops every TLB entry.
pub fn flush_all() {
    // SAFETY: as above.
    unsafe { asm!("dbar 0", "invtlb 0, $zero, $zero", options(nostack)) };
}

/// Called after an entry was written. A processor that still holds that there was none faults, and
/// then flushes the page.
pub fn entry_written() {}

/// Makes instructions that were written to memory be fetched by this processor.
pub fn sync_instructions() {
    // SAFETY: drops what the processor can load again.
    unsafe { asm!("dbar 0", "ibar 0", options(nostack)) };
}
