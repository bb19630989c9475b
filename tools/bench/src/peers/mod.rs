//! The containers. Each holds VMAs with a number and a protection. Equal neighbours may merge.

mod btree;
mod hinted;
mod iset;
mod libkvma;
mod libmmap;
mod library;
mod memory_set;
mod nodit;
mod ours;
mod range_map;
mod vm_allocator;
mod vmem;
mod wavltree;

pub use self::btree::{BTree, GapIndex, Gaps, NoIndex};
pub use self::hinted::Hinted;
pub use self::iset::ISet;
pub use self::libkvma::Capi;
pub use self::libmmap::{
    Generation, Libmmap, MmDropIn, MmList, MmTrees, MmapCpp, MmapDropIn, MmapTree,
};
pub use self::memory_set::{AxMemorySet, MemorySet};
pub use self::nodit::Nodit;
pub use self::ours::Kvma;
pub use self::range_map::RangeMap;
pub use self::vm_allocator::VmAllocator;
pub use self::vmem::Vmem;
pub use self::wavltree::Wavl;
use crate::Load;

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// One past the last byte that may be mapped.
pub const LIMIT: u64 = 1 << 47;

/// A container, as the workloads use it. Lengths are in bytes.
pub trait Peer: Default {
    /// Its name, for tables.
    const NAME: &'static str;

    /// The operations that it has. No others are asked of it.
    const LOADS: &'static [Load] = &Load::ALL;

    /// The largest number of VMAs with which it can be measured in a minute.
    const LARGEST: usize = usize::MAX;

    /// True if equal neighbours become one VMA again.
    const MERGES: bool = true;

    /// How it chooses among gaps.
    const FIT: Fit = Fit::Lowest;

    /// True if it says how many VMAs there are and where they begin; else `find` answers with 1 for
    /// what is mapped.
    const TELLS_VMAS: bool = true;

    /// Returns true if it can be measured here: a library that is no part of this repository may be
    /// missing.
    fn is_here() -> bool {
        true
    }

    /// Maps VMAs of `len` bytes each at `starts`, numbered in that order.
    fn build(starts: &[u64], len: u64) -> Self {
        let mut built = Self::default();
        for (id, &start) in starts.iter().enumerate() {
            built.insert(start, len, id as u32);
        }
        built
    }

    /// Returns the number of VMAs.
    fn len(&self) -> usize;

    /// Returns true if there are no VMAs.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Maps a free range.
    fn insert(&mut self, start: u64, len: u64, id: u32);

    /// Maps a range in a gap that holds it, and returns its start.
    fn insert_anywhere(&mut self, len: u64, id: u32) -> u64 {
        let start = self.find_gap(len);
        self.insert(start, len, id);
        start
    }

    /// Unmaps a range that is exactly one VMA.
    fn remove(&mut self, _start: u64, _len: u64) {
        unimplemented!("{} is not asked to unmap", Self::NAME)
    }

    /// Returns the start of the VMA that holds `addr`, or 0.
    fn find(&self, _addr: u64) -> u64 {
        unimplemented!("{} is not asked to look up", Self::NAME)
    }

    /// Takes the write permission of a part of a VMA and gives it back.
    fn protect_and_back(&mut self, _start: u64, _len: u64) {
        unimplemented!("{} is not asked to protect", Self::NAME)
    }

    /// Maps a range and replaces what was mapped there.
    fn overwrite(&mut self, _start: u64, _len: u64, _id: u32) {
        unimplemented!("{} is not asked to overwrite", Self::NAME)
    }

    /// Returns the start of a gap that holds `len` bytes.
    fn find_gap(&self, _len: u64) -> u64 {
        unimplemented!("{} is not asked for gaps", Self::NAME)
    }
}

/// Which gap is chosen among those that are large enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The lowest one.
    Lowest,
    /// Another one: the smallest, or the first that was found.
    Other,
}
