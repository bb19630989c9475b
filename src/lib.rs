#![doc = include_str!("../README.md")]
#![no_std]
#![deny(unsafe_code)]

pub mod addr_space;
mod error;
mod flags;
mod hooks;
pub mod linux;
mod mappings;
pub mod node;
mod options;
mod pending_flush;
pub mod pinned;
mod placement;
mod position;
mod range;
pub mod range_map;
mod ranges;
#[allow(unsafe_code)]
mod sync;
mod tree;
mod update;
mod vm_map;
mod vma;

pub use addr_space::{AddrSpace, Busy, Claim, HasVmMap, Snapshot, Token};
pub use error::{Errno, Error};
pub use flags::{MemType, Prot, SplitGranularity, VmaFlags};
pub use hooks::{Event, Hooks, NoHooks, Piece};
pub use mappings::{Checkpoint, Info, Mappings, Origin, UpdateFn};
#[cfg(any(feature = "alloc", loom))]
pub use node::BoxAlloc;
#[cfg(feature = "alloc")]
pub use node::Heap;
pub use node::{FixedPool, Node, NodeAlloc, Preallocated, ReadSide, Slab, TypeStable};
pub use options::{AdoptError, MapFlags, MapOptions, WriteXorExec};
pub use placement::{Direction, Search};
pub use position::Position;
pub use range::{PageSize, VmRange};
pub use range_map::{Advance, Contiguous, Entry, Equal, Key, Policy, RangeMap, RangeNode};
pub use ranges::Merge;
#[cfg(feature = "lock_api_04")]
pub use sync::LockApi04;
#[cfg(feature = "lock_api_05")]
pub use sync::LockApi05;
pub use sync::{RawLock, Spin, Ticket};
pub use update::Update;
pub use vm_map::{Advice, Gaps, Hold, MapRequest, Pieces, Placement, Source, VmMap, Vmas};
pub use vma::{Attrs, Backing, Vma, VmaData, VmaNode, VmaWords};
