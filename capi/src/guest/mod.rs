//! `kvma_guest`: the engine's `Guest` behind a handle.
//!
//! Changes are parts of an update, which the caller begins before taking the lock that guards the
//! guest, and finishes after releasing it.

pub mod dirty;
pub mod fault;
pub mod handle;
pub mod look;
pub mod parts;
pub mod slots;
pub mod update;
pub mod uses;
pub mod values;
