//! kvma for C and C++. The header, `include/kvma.h`, is generated from this crate: what stands here
//! in doc comments is what its readers see.
//!
//! # What the caller promises, once for all functions
//!
//! Every function is `unsafe` in Rust's sense, because C hands over raw pointers:
//!
//! - A pointer is NULL or points to what its type says, for as long as the call lasts; tables of
//!   functions (`kvma_allocator`, `kvma_data_ops`) for as long as the header says. NULL where a
//!   pointer is needed is answered with a status, not a crash.
//! - A handle comes from this library and has not been freed.
//! - Functions in tables follow the C calling convention and do not unwind: no C++ exception, no
//!   `longjmp` across this library.
//!
//! # What this crate promises
//!
//! - No panic crosses the boundary. The engine is written not to panic; should it do so all the
//!   same, `catch_unwind` turns it into `KVMA_INTERNAL`, and the handle refuses to be used from
//!   then on. Without feature `std` there is no unwinding: a panic ends in `kvma_panic`, which the
//!   kernel provides.
//! - Running out of memory is a status, and nothing has changed.
//! - Calling back into a map from one of its own hooks, or from two threads at once, is a status
//!   (`KVMA_BUSY`), not undefined behaviour.
#![cfg_attr(not(feature = "std"), no_std)]
// Names are what C sees.
#![allow(non_camel_case_types)]
// The contract of all functions is above, once; in the header it would be repeated a hundred times.
#![allow(clippy::missing_safety_doc)]

pub mod alloc;
pub mod attrs;
mod boundary;
mod cell;
pub mod data;
pub mod hooks;
#[cfg(feature = "std")]
pub mod libmmap;
pub mod linux;
pub mod maps;
#[cfg(not(feature = "std"))]
mod panic;
pub mod request;
pub mod status;
mod stored_update;
pub mod vm;
