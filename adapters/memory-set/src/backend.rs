//! The traits that a kernel implements.

use memory_addr::MemoryAddr;

/// The changes that a kernel makes to its page table for an area. Its methods answer `false` to
/// refuse.
///
/// They are called before any area changes. If one refuses, what others have done for the same call
/// is undone with the opposite method: `unmap` after `map`, `map` after `unmap`, `protect` with the
/// old flags. A backend that has refused `map` is asked to `unmap` the same range, since a part of
/// it may be there.
pub trait MappingBackend: Clone {
    /// The type of addresses.
    type Addr: MemoryAddr;
    /// The type of flags, such as rights.
    type Flags: Copy;
    /// The type of the page table that is passed to each call.
    type PageTable;

    /// Maps `size` bytes from `start`.
    fn map(
        &self,
        start: Self::Addr,
        size: usize,
        flags: Self::Flags,
        page_table: &mut Self::PageTable,
    ) -> bool;

    /// Unmaps `size` bytes from `start`.
    fn unmap(&self, start: Self::Addr, size: usize, page_table: &mut Self::PageTable) -> bool;

    /// Gives `size` bytes from `start` other flags.
    fn protect(
        &self,
        start: Self::Addr,
        size: usize,
        new_flags: Self::Flags,
        page_table: &mut Self::PageTable,
    ) -> bool;
}
