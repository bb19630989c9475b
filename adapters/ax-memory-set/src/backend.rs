//! The traits that a kernel implements.

use ax_memory_addr::MemoryAddr;

/// The changes that a kernel makes to its page table for an area. Its methods answer `false` or
/// `None` to refuse.
///
/// They are called before any area changes. If one refuses, what others have done for the same call
/// is undone with the opposite method, except after a refusal of `unmap`. A backend that has
/// refused `map` is asked to `unmap` the same range, and one that has refused `protect` to give it
/// the old flags, since a part may be done.
pub trait MappingBackend: Clone {
    /// The type of addresses.
    type Addr: MemoryAddr;
    /// The type of flags, such as rights.
    type Flags: Copy;
    /// The type of what all calls of one change share, such as a flush that gathers pages.
    type MutationContext;
    /// The type of the page table that is passed to each call.
    type PageTable;

    /// Maps `size` bytes from `start`.
    fn map(
        &self,
        start: Self::Addr,
        size: usize,
        flags: Self::Flags,
        context: &mut Self::MutationContext,
        page_table: &mut Self::PageTable,
    ) -> bool;

    /// Returns `false` if mapping would be refused. Asked first where nothing is to be replaced.
    fn validate_map(
        &self,
        start: Self::Addr,
        size: usize,
        flags: Self::Flags,
        page_table: &Self::PageTable,
    ) -> bool {
        let _ = (start, size, flags, page_table);
        true
    }

    /// Unmaps `size` bytes from `start`.
    fn unmap(
        &self,
        start: Self::Addr,
        size: usize,
        context: &mut Self::MutationContext,
        page_table: &mut Self::PageTable,
    ) -> bool;

    /// Returns `false` if unmapping would be refused. Every backend in a range is asked before the
    /// first unmaps.
    fn validate_unmap(&self, start: Self::Addr, size: usize, page_table: &Self::PageTable) -> bool {
        let _ = (start, size, page_table);
        true
    }

    /// Returns `false` if other flags would be refused. Every backend in a range is asked before
    /// the first changes any.
    fn validate_protect(
        &self,
        start: Self::Addr,
        size: usize,
        new_flags: Self::Flags,
        page_table: &Self::PageTable,
    ) -> bool {
        let _ = (start, size, new_flags, page_table);
        true
    }

    /// Gives `size` bytes from `start` other flags.
    fn protect(
        &self,
        start: Self::Addr,
        size: usize,
        new_flags: Self::Flags,
        context: &mut Self::MutationContext,
        page_table: &mut Self::PageTable,
    ) -> bool;

    /// Splits the backend `align_diff` bytes from its start: `self` keeps what lies below.
    fn split(&mut self, align_diff: usize) -> Option<Self>;

    /// Moves the backend's start up by `shrink_size` bytes.
    fn shrink_left(&mut self, shrink_size: usize) -> bool {
        let _ = shrink_size;
        true
    }

    /// Moves the backend's end down by `shrink_size` bytes.
    fn shrink_right(&mut self, shrink_size: usize) -> bool {
        let _ = shrink_size;
        true
    }
}
