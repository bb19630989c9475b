//! The workloads, and the containers that do them.
//!
//! All containers start from the same layout: VMAs of four pages with gaps of one to three pages
//! between them, inserted in random order. No two neighbours are equal, so nothing merges.

pub mod figures;
pub mod options;
mod peers;
pub mod random;
pub mod timed_lock;
pub mod timing;
mod workload;

pub use self::peers::{
    AxMemorySet, BTree, Capi, Fit, GapIndex, Gaps, Generation, Hinted, ISet, Kvma, LIMIT, Libmmap,
    MemorySet, MmDropIn, MmList, MmTrees, MmapCpp, MmapDropIn, MmapTree, NoIndex, Nodit, PAGE,
    Peer, RangeMap, VmAllocator, Vmem, Wavl,
};
pub use self::workload::{Load, Outcome, Workload, layout};
