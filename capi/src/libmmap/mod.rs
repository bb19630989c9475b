//! The library under the drop-in headers for programs written for libmmap.
//!
//! - `page_info`: what libmmap knows of a page, and how the engine's attributes hold it.
//! - `space`: an address space with libmmap's operations, on the engine's `VmMap`.
//! - `space_calls`: `kvma_space_*`, which `addr_space.h` calls; callbacks may stop a change.
//! - `mmap_c`: the functions of `mmap_c.h`, which are also those of the `c` branch's `mmap.h`.
//! - `mm`: the functions of `mmap.h`, the generation before.
//!
//! If libmmap's code and its documentation differ, this does what the documentation says;
//! README.md has the list.

/// cbindgen:ignore
pub mod mm;
/// cbindgen:ignore
pub mod mmap_c;
pub mod page_info;
pub mod space;
pub mod space_calls;
