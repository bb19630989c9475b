//! kvma for C and C++. The header, `include/kvma.h`, is generated from this crate: its readers see
//! the doc comments of what is exported.
//!
//! # What the caller promises
//!
//! Every exported function is `unsafe`, because it trusts what C passes:
//!
//! - A pointer is NULL or points to what its type says, for as long as the call lasts; tables of
//!   functions for as long as their comments say. NULL where a pointer is needed is answered with a
//!   status, not a crash.
//! - What a `const` pointer points to does not change while the call lasts, and what a result goes
//!   to is not used otherwise.
//! - A handle comes from this library and has not been freed, and no other thread frees it during a
//!   call that uses it. A callback may try: it is told `KVMA_BUSY`.
//! - Functions in tables follow the C calling convention and do not unwind: no C++ exception and no
//!   `longjmp` crosses this library.
//!
//! # What this crate promises
//!
//! - No panic crosses the boundary. The engine is written not to panic; should it do so all the
//!   same, `catch_unwind` turns it into `KVMA_INTERNAL`, and the handle refuses to be used from
//!   then on. Without feature `std` there is no unwinding: a panic ends in `kvma_panic`, which the
//!   kernel provides.
//! - Running out of memory is a status, and nothing has changed.
//! - A call into a handle that is in use, from one of its own callbacks or from another thread, is
//!   a status (`KVMA_BUSY`), not undefined behaviour. That holds until the handle is freed.
//!
//! # Layers
//!
//! Each line uses the ones above it only.
//!
//! - `status`, `version`
//! - `table`
//! - `alloc`, `cell`
//! - `boundary`, `attrs`, `kept_nodes`
//! - `user_data`, `walk`, `stored_update`, `proc_maps`, `hooks`
//! - `request`
//! - `vm`, `linux`, `guest`, `libmmap`
#![cfg_attr(not(feature = "std"), no_std)]
// The types and their names are C's, and nobody prints them.
#![allow(missing_debug_implementations, non_camel_case_types)]
// The contract of all functions stands above, once; in the header it would be repeated a hundred
// times.
#![allow(clippy::missing_safety_doc)]

pub mod alloc;
pub mod attrs;
mod boundary;
mod cell;
pub mod guest;
pub mod hooks;
mod kept_nodes;
#[cfg(feature = "std")]
pub mod libmmap;
pub mod linux;
#[cfg(not(feature = "std"))]
mod panic;
pub mod proc_maps;
pub mod request;
pub mod status;
mod stored_update;
mod table;
pub mod user_data;
pub mod version;
pub mod vm;
pub mod walk;
