#![doc = include_str!("../README.md")]
//!
//! # Where this reference answers what
//!
//! | question | answered in |
//! |---|---|
//! | In which order are hooks called, and under which lock? Who cancels what? | [`hooks`] |
//! | What is told where a mapping is replaced? Whose data after a merge? | [`hooks`] |
//! | How do page faults and changes go together? Which lock comes first? | [`addr_space`] |
//! | How do I put a map type of my own behind a lock? | [`addr_space::HasVmMap`] |
//! | What may user data do, and when is it dropped? | [`VmaData`], [`pinned`] |
//! | Where does the memory of VMAs come from? | [`node`], [`NodeAlloc`] |
//! | What does each operation need, cost and promise? | [`VmMap`] |
//! | How do I see what happens, and try what is refused? | [`watch`] |
#![no_std]
// On docs.rs, what needs a feature says so. `loom` is a cfg for this crate's own models.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(docsrs, doc(auto_cfg(hide(loom))))]
// Docs link to what features add. With all of them, every link must lead somewhere.
#![cfg_attr(
    not(all(
        feature = "alloc",
        feature = "compat",
        feature = "defmt",
        feature = "guest",
        feature = "linux",
        feature = "log",
        feature = "range-map"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]
#![deny(unsafe_code)]
// Clippy's pedantic set, with these exceptions. Those of a single place are written there.
#![warn(missing_debug_implementations, clippy::pedantic, clippy::use_self)]
#![allow(
    // Words hold two numbers, and keys become positions: a cast is what is meant.
    clippy::cast_lossless,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    // What must be inlined on a page fault's way is measured.
    clippy::inline_always,
    // Coordinates, and the left and right of two, need no longer names.
    clippy::many_single_char_names,
    clippy::similar_names,
    // `A` is an allocator and `T` what is in a tree, also where a type names its parameters
    // otherwise.
    clippy::mismatching_type_param_order,
    // User data need not have Debug, and what a lock guards is not shown.
    clippy::missing_fields_in_debug,
    // Nearly every method returns something. Those whose result must be used say so.
    clippy::must_use_candidate,
    // Tokens, nodes and claims are used up.
    clippy::needless_pass_by_value
)]

#[cfg(all(loom, not(any(feature = "loom", kvma_shuttle))))]
compile_error!("`--cfg loom` needs kvma's feature `loom`: its locks and atomics are loom's then");

pub mod addr_space;
mod error;
mod flags;
#[cfg(feature = "guest")]
pub mod guest;
pub mod hooks;
mod invalidated;
mod memory_addr;
pub mod node;
mod pending_flush;
pub mod pinned;
mod placement;
mod position;
mod random;
mod range;
#[cfg(feature = "range-map")]
pub mod range_map;
mod split_merge;
mod sync;
mod tree;
mod update;
pub mod vm_map;
pub mod vma;
pub mod watch;

// Last, so that rustdoc, which goes by the order of the source, lists a type's own methods before
// those that these add.
#[cfg(feature = "compat")]
pub mod compat;
#[cfg(feature = "linux")]
pub mod linux;
#[cfg(feature = "serde")]
mod serde_impls;

/// Locks for an [`AddrSpace`] and for allocators.
pub mod lock {
    #[cfg(feature = "lock_api_04")]
    pub use crate::sync::LockApi04;
    #[cfg(feature = "lock_api_05")]
    pub use crate::sync::LockApi05;
    pub use crate::sync::{RawLock, Spin, Ticket, TrackedLock};
}

#[doc(inline)]
pub use addr_space::{AddrSpace, Claim, Token, VmaSnapshot};
pub use error::{Errno, Error, HookError};
pub use flags::{MemType, Prot, SplitGranularity, VmaFlags};
#[doc(inline)]
pub use hooks::{Event, Hooks, NoHooks, Piece, on_event};
#[cfg(any(feature = "alloc", loom))]
#[doc(inline)]
pub use node::{BoxAlloc, Heap};
#[doc(inline)]
pub use node::{FixedPool, NodeAlloc, ReadSide, Slab};
pub use placement::{Direction, MapRequest, Placement, Search};
pub use range::{PageSize, VmRange};
#[cfg(feature = "range-map")]
#[doc(inline)]
pub use range_map::RangeMap;
pub use split_merge::Merge;
pub use sync::RawLock;
#[doc(inline)]
pub use vm_map::{Update, VmMap};
#[doc(inline)]
pub use vma::{Attrs, Backing, Plain, Vma, VmaData, VmaNode};
