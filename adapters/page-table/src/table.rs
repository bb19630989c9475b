//! A page table, as the hooks see it.

use kvma::{Attrs, Error, VmRange};

/// A page-table entry that maps memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The address where it begins.
    pub addr: u64,
    /// The physical address of its frame.
    pub frame: u64,
    /// Its size in bytes: 4 KiB, 2 MiB or 1 GiB.
    pub size: u64,
}

impl Leaf {
    /// Returns the last byte.
    pub(crate) const fn last(&self) -> u64 {
        self.addr.saturating_add(self.size - 1)
    }
}

/// Who may use pages that are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Programs, and the kernel.
    User,
    /// The kernel alone.
    Kernel,
}

/// A page table that a kernel keeps beside a map.
///
/// Nothing is flushed by it: see [`Frames`](crate::Frames).
pub trait PageTable {
    /// Calls `act` for each leaf that shares a byte with `range`, ascending. `act` may change or
    /// remove that leaf.
    fn each_leaf(&mut self, range: VmRange, act: &mut dyn FnMut(&mut Self, Leaf));

    /// Adds a leaf where there is none, with the rights and the memory type of `attrs`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if a table could not be had, [`Error::Overlap`] if there is a leaf,
    /// [`Error::Unaligned`] or [`Error::OutOfRange`] for numbers that no entry can hold. Nothing
    /// has changed then, though there may be more tables.
    fn map(&mut self, leaf: Leaf, attrs: &Attrs) -> Result<(), Error>;

    /// Removes a leaf that [`each_leaf`](Self::each_leaf) has told of.
    fn unmap(&mut self, leaf: Leaf);

    /// Gives a leaf that [`each_leaf`](Self::each_leaf) has told of other rights.
    fn protect(&mut self, leaf: Leaf, attrs: &Attrs);

    /// Makes the tables that a leaf of `size` bytes at `addr` needs, so that
    /// [`map`](Self::map) cannot fail for want of memory.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    fn reserve(&mut self, addr: u64, size: u64) -> Result<(), Error>;
}
