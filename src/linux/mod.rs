//! The Linux address-space calls, errno by errno, on top of the clean core.

pub mod maps;
mod vm_flags;

pub use vm_flags::VmFlags;
