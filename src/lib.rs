#![doc = include_str!("../README.md")]
#![no_std]
#![deny(unsafe_code)]

pub mod addr_space;
#[cfg(feature = "compat")]
pub mod compat;
mod error;
mod flags;
mod hooks;
#[cfg(feature = "linux")]
pub mod linux;
pub mod node;
mod pending_flush;
mod placement;
mod position;
mod range;
#[cfg(feature = "range-map")]
pub mod range_map;
mod ranges;
#[allow(unsafe_code)]
mod sync;
mod tree;
mod update;
mod vm_map;
mod vma;

pub use addr_space::{AddrSpace, Busy, Claim, HasVmMap, Snapshot, Token};
#[cfg(feature = "compat")]
pub use compat::{
    Checkpoint, Info, MapFlags, MapOptions, Mappings, Origin, UpdateFn, WriteXorExec,
};
pub use error::{Errno, Error};
pub use flags::{MemType, Prot, SplitGranularity, VmaFlags};
pub use hooks::{Event, Hooks, NoHooks, Piece};
#[cfg(feature = "linux")]
pub use linux::maps::AdoptError;
#[cfg(any(feature = "alloc", loom))]
pub use node::BoxAlloc;
#[cfg(feature = "alloc")]
pub use node::Heap;
pub use node::{FixedPool, Node, NodeAlloc, Preallocated, ReadSide, Slab, TypeStable};
pub use placement::{Direction, Search};
pub use position::Position;
pub use range::{PageSize, VmRange};
#[cfg(feature = "range-map")]
pub use range_map::{Advance, Contiguous, Entry, Equal, Key, MergePolicy, RangeMap, RangeNode};
pub use ranges::Merge;
#[cfg(feature = "lock_api_04")]
pub use sync::LockApi04;
#[cfg(feature = "lock_api_05")]
pub use sync::LockApi05;
pub use sync::{RawLock, Spin, Ticket};
pub use update::Update;
pub use vm_map::{Advice, Gaps, Hold, MapRequest, Pieces, Placement, Source, VmMap, Vmas};
pub use vma::{Attrs, Backing, Vma, VmaData, VmaNode, VmaWords};
