//! The hart's number, its root table and its TLB.

use core::arch::asm;

/// Sv48: page tables of four levels.
const SV48: u64 = 9 << 60;

/// Returns the number of the calling hart, which the kernel keeps in `tp`.
pub fn number() -> usize {
    let number;
    // SAFETY: reads a register that nothing else in this kernel uses.
    unsafe { asm!("mv {}, tp", out(reg) number, options(nomem, nostack, preserves_flags)) };
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
        asm!("csrw satp, {}", "sfence.vma", in(reg) SV48 | (root >> 12), options(nostack));
    }
}

/// Returns the physical address of the top page table.
pub fn root() -> u64 {
    const NUMBER: u64 = (1 << 44) - 1;
    let satp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("csrr {}, satp", out(reg) satp, options(nomem, nostack, preserves_flags)) };
    (satp & NUMBER) << 12
}

/// Drops the TLB entry of the page that holds `address`.
pub fn flush_page(address: u64) {
    // SAFETY: drops what the hart can load again.
    unsafe { asm!("sfence.vma {}, zero", in(reg) address, options(nostack)) };
}

/// Drops every TLB entry.
pub fn flush_all() {
    // SAFETY: as above.
    unsafe { asm!("sfence.vma", options(nostack)) };
}

/// Called after an entry was written. A hart that still holds that there was none faults once
/// more, and then flushes the page.
pub fn entry_written() {}

/// Makes instructions that were written to memory be fetched by this hart.
pub fn sync_instructions() {
    // SAFETY: drops what the hart can load again.
    unsafe { asm!("fence.i", options(nostack)) };
}
