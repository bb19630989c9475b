//! `kvma_linux`: the engine's `linux::Mm` behind a handle: the Linux memory calls, errno by errno.
//!
//! A call goes with a `kvma_linux_call`, which carries the kernel into it and owed work out of it.
//! Linux' own answers are negative statuses; positive ones are of this boundary.

pub mod calls;
pub mod fault;
pub mod file;
pub mod fork;
pub mod handle;
pub mod kernel;
pub mod layout;
pub mod settings;
pub mod setup;
pub mod state;
pub mod text;
