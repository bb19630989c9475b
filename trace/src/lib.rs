//! Recorded address-space traces.
//!
//! A trace holds what a real Linux kernel was asked (system calls that change an address space, with the inputs they
//! depend on) and what it answered. Everything left of a line's last ` = ` is input, and so is the first `maps` block
//! after `exec`; the rest are answers. All names are borrowed from the text of the trace, and nothing allocates, so a
//! kernel can replay a trace before it has a heap.
//!
//! - [`Parser`] turns the text into [`Entry`]s;
//! - [`Snapshot`] reads a `maps` block, and [`same`] compares two lists of areas;
//! - [`Replay`] asks [`kvma::linux::Mm`] what the trace asked Linux.
#![no_std]

mod compare;
mod descriptors;
mod error;
mod line;
mod parser;
mod replay;
mod snapshot;
mod system_call;

pub use compare::same;
pub use error::TraceError;
pub use line::{Access, Answer, Backing, Call, Descriptor, FileKind, Limit, Line, Privilege};
pub use parser::{Entry, Parser};
pub use replay::{Kernel, Machine, Replay, ReplayError, Step};
pub use snapshot::{Area, Snapshot};
