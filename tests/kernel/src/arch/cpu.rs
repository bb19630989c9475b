//! Control registers and TLB instructions.

use x86_64::{
    PhysAddr, VirtAddr,
    instructions::tlb,
    registers::control::{Cr2, Cr3, Cr3Flags},
    structures::paging::PhysFrame,
};

/// Makes `root` the top page table, which drops every TLB entry: no entry here is global.
///
/// # Safety
///
/// `root` must be a page table that maps the running code, its stack and the direct map as they are mapped now.
pub unsafe fn set_root(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: passed on to the caller.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) }
}

/// Drops the TLB entry for the page that holds `address`, and everything the processor caches of the
/// tables above it.
pub fn flush_page(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
}

/// Drops every TLB entry.
pub fn flush_all() {
    tlb::flush_all();
}

/// The address that the last page fault was about.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}
