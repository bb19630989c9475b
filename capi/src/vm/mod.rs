//! `kvma_vm`: the engine's `VmMap` behind a handle. One operation, one file.
//!
//! Each change comes twice: `kvma_vm_…` is finished when it returns, `kvma_update_…` is a part of
//! an update, which the caller finishes.

pub mod advise;
pub mod claim;
pub mod compat;
pub mod fork;
pub mod handle;
pub mod invalidate;
pub mod map;
pub mod protect;
pub mod query;
pub mod relocate;
pub mod restore;
pub mod split_merge;
pub mod unmap;
pub mod update;
pub mod update_data;
pub mod walk;
