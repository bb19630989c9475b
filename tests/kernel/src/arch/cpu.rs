//! Control registers and TLB instructions, and which processor this is.

use core::arch::asm;
use x86_64::{
    PhysAddr, VirtAddr,
    instructions::tlb,
    registers::control::{Cr2, Cr3, Cr3Flags},
    structures::paging::PhysFrame,
};

/// How many processors this kernel runs on.
pub const CPUS: usize = 2;

/// Selector of the first processor's task segment; the next one's follows 16 bytes later. See
/// `traps`.
pub(super) const FIRST_TASK: u16 = 0x18;

/// Number of the processor that asks. Each has loaded a task segment of its own.
pub fn number() -> usize {
    let task: u16;
    // SAFETY: stores the selector, and touches nothing else.
    unsafe { asm!("str {0:x}", out(reg) task, options(nomem, nostack, preserves_flags)) };
    // Before it is loaded, only the first processor runs.
    usize::from(task.saturating_sub(FIRST_TASK) / 16)
}

/// Makes `root` the top page table, which drops every TLB entry: no entry here is global.
///
/// # Safety
///
/// `root` must be a page table that maps the running code, its stack and the direct map as they are
/// mapped now.
pub unsafe fn set_root(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: passed on to the caller.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) }
}

/// Physical address of the top page table.
pub fn root() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// Drops the TLB entry for the page that holds `address`, and everything the processor caches of
/// the tables above it.
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
