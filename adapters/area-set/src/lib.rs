//! Areas with a backend each, as ArceOS' `memory_set` and `ax-memory-set` have them, over a
//! [`VmMap`](kvma::VmMap). This is what `kvma-memory-set` and `kvma-ax-memory-set` share; kernels
//! use one of those.
//!
//! An area is the user data of a VMA, so that references to it can be handed out. Areas never
//! merge. The space is all of `usize`, with pages of one byte, since theirs have no page size.
//!
//! Their backends answer `bool` while they edit the page table. Here they are called when hooks
//! [prepare](kvma::Hooks::prepare): nodes are there by then, and nothing but another backend can
//! still refuse. If one does, those before it are undone.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod area;
mod calls;
mod failure;
mod metadata;
mod parts;
mod set;

pub use self::area::{Area, NoPageTable, PageTable};
pub use self::failure::Failure;
pub use self::set::{AreaSet, Overlap};
