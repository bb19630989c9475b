//! The engine under the drop-in headers for programs written for libmmap.
//!
//! - `space`: an address space with libmmap's vocabulary, on the engine's `VmMap`.
//! - `info`: what it knows of a page, and how that lies in the engine's attributes.
//! - `spaces`: `kvma_space_*`, what `addr_space.h` calls; callbacks may stop a change.
//! - `mmap_c`: the functions of `mmap_c.h`, which are also those of the `c` branch's `mmap.h`.
//! - `mm`: the functions of `mmap.h`, the generation before.
//!
//! Where libmmap's code and its documentation differ, this does what the documentation says;
//! README.md has the list.

pub mod info;
/// cbindgen:ignore
pub mod mm;
/// cbindgen:ignore
pub mod mmap_c;
pub mod space;
pub mod spaces;
