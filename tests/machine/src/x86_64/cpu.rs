//! Control registers, TLB instructions, and the number of the processor.

use core::arch::asm;

use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr2, Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

/// Selector of the first processor's task segment; the next one's follows 16 bytes later. See
/// `traps`.
pub const FIRST_TASK: u16 = 0x18;

/// Returns the number of the calling processor. Each has loaded a task segment of its own.
pub fn number() -> usize {
    let task: u16;
    // SAFETY: stores the selector and changes nothing else.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    // Before a task segment is loaded, only the first processor runs.
    usize::from(task.saturating_sub(FIRST_TASK) / 16)
}

/// Makes `root` the top page table. This drops every TLB entry, because no entry is global. Use
/// [`crate::cpus::set_root`], which keeps account.
///
/// # Safety
///
/// `root` must be a page table that maps the running code, its stack and the direct map as they are
/// mapped now.
pub unsafe fn set_root(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: the caller's promise.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) }
}

/// Returns the physical address of the top page table.
pub fn root() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// Drops the TLB entry of the page that holds `address`, and cached entries of the tables above it.
pub fn flush_page(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
}

/// Drops every TLB entry.
pub fn flush_all() {
    tlb::flush_all();
}

/// Called after an entry was written. This processor sees it at once.
pub fn entry_written() {}

/// Makes instructions that were written to memory be fetched. This processor does that by itself.
pub fn sync_instructions() {}

/// Returns the address of the last page fault.
pub fn fault_address() -> u64 {
    Cr2::read_raw()
}
