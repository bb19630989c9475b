//! The workloads, and the containers that do them.
//!
//! All containers start from the same layout: VMAs of four pages with gaps of one to three pages
//! between them, inserted in random order. No two neighbours are equal, so nothing merges.

pub mod figures;
pub mod options;
mod peers;
pub mod timing;
mod workload;

pub use self::peers::{
    AxMemorySet, BTree, Fit, GapIndex, Gaps, Hinted, ISet, Kvma, LIMIT, MemorySet, NoIndex, Nodit,
    PAGE, Peer, RangeMap, VmAllocator, Vmem, Wavl,
};
pub use self::workload::{Load, Outcome, Workload, layout};
