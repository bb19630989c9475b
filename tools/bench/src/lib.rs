//! The workloads, and the containers that do them.
//!
//! All start from the same layout: `n` VMAs of four pages, each different from its neighbours so
//! that nothing merges, with gaps of one to three pages, inserted in random order.

mod peers;
mod workload;

pub use peers::{BTree, Kvma, MemorySet, Peer, RangeMap};
pub use workload::{LIMIT, Load, PAGE, Workload, layout};
