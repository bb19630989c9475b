//! The workloads, and the containers that do them.
//!
//! All containers start from the same layout: VMAs of four pages with gaps of one to three pages
//! between them, inserted in random order. No two neighbours are equal, so nothing merges.

mod peers;
mod workload;

pub use self::peers::{BTree, Kvma, LIMIT, MemorySet, PAGE, Peer, RangeMap};
pub use self::workload::{Load, Workload, layout};
