//! `kvma_vm`: the engine's `VmMap` behind a handle. One concern, one file.

pub mod change;
pub mod fork;
pub mod hold;
pub mod join;
pub mod life;
pub mod options;
pub mod query;
pub mod restore;
pub mod update;
pub mod walk;

use crate::alloc::Memory;
use crate::cell::BusyCell;
use crate::data::{Data, kvma_data_ops};
use engine::VmMap;

pub(crate) type Map = VmMap<Data, Memory>;

/// The VMAs of one address space. Opaque.
///
/// It has no lock. Calls that change it must be kept apart from all others by the caller; where
/// they are not, the later one is answered `KVMA_BUSY`.
pub struct kvma_vm {
    map: BusyCell<Map>,
    memory: Memory,
    ops: *const kvma_data_ops,
}
