//! The page table and the frames, which are the hypervisor's.

use kvma::Prot;
use kvma::guest::LeafSizes;

/// There was no memory for a page-table page or a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// A leaf of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The guest-physical address where it begins.
    pub gpa: u64,
    /// The host-physical address where it begins.
    pub hpa: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The accesses that it allows.
    pub prot: Prot,
}

/// A nested page table, and where frames come from.
pub trait NestedTable {
    /// Returns the sizes of leaves that it can hold.
    fn sizes(&self) -> LeafSizes;

    /// Adds a leaf where there is none. Its size is one of [`sizes`](Self::sizes), of which both
    /// addresses are multiples.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]; then nothing has changed.
    fn map(&mut self, entry: Entry) -> Result<(), NoMemory>;

    /// Removes the leaf that begins at `gpa`, if there is one. Must not fail otherwise.
    fn unmap(&mut self, gpa: u64) -> Option<Entry>;

    /// Splits the leaf that holds `gpa`, if there is one, so that one begins there.
    ///
    /// # Errors
    ///
    /// [`NoMemory`]; then the same addresses are mapped as before.
    fn split(&mut self, gpa: u64) -> Result<(), NoMemory>;

    /// Returns the leaf that holds `gpa`.
    fn query(&self, gpa: u64) -> Option<Entry>;

    /// Flushes what was unmapped from the TLBs of all processors, and waits for it.
    fn flush(&mut self);

    /// Takes a frame of 4 KiB.
    ///
    /// # Errors
    ///
    /// [`NoMemory`].
    fn alloc_frame(&mut self) -> Result<u64, NoMemory>;

    /// Gives a frame back.
    fn free_frame(&mut self, hpa: u64);
}
