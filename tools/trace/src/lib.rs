//! Recorded address-space traces.
//!
//! A trace holds the questions to a real Linux kernel (system calls that change an address space,
//! with the inputs that they depend on) and its answers. Everything left of a line's last ` = ` is
//! input, and so is the first `maps` block after `exec`; the rest are answers. All names are
//! borrowed from the text of the trace, and nothing allocates, so a kernel can replay a trace
//! before it has a heap.
//!
//! - [`Parser`] turns the text into [`Entry`]s;
//! - [`Snapshot`] reads a `maps` block, and [`same`] compares two lists of VMAs;
//! - [`Replay`] makes the calls of the trace on a [`kvma::linux::Mm`] of its own, and [`Machine`]
//!   on one that the caller keeps.
//!
//! # Lines that recorded traces do not have
//!
//! Tests write these lines by hand. Numbers are hexadecimal, as in all other lines.
//!
//! - `shmat ID ADDR FLAGS SIZE [BACKING] = RET`: with the bytes of the segment, or 0 if there is
//!   none, and what maps shows of it. `shmdt ADDR = RET`.
//! - `mincore ADDR LEN = RET`: the vector is the kernel's own affair and is not in the trace.
//! - `process_madvise own|other ADVICE FLAGS [ADDR LEN]… = RET`: with the ranges of the vector.
//!   `other` means ranges of the other process of the last fork.
//! - `pkey_mprotect ADDR LEN PROT KEY = RET`, `pkey_alloc FLAGS RIGHTS = RET`,
//!   `pkey_free KEY = RET`.
//! - `name ADDR LEN [00:00 0 [anon:NAME]] = RET`: `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`,
//!   without a name to remove it.
//! - `fork = RET`: 0 stands for the child's number. The lines that follow are about the parent. The
//!   other process of an earlier fork is gone.
//! - `child`, `parent` (input): the lines that follow are about that process. Descriptors and
//!   privileges are the same for both, unless a line changes them.
//! - `execve START_BRK N = RET` and N lines: a new image replaces the old one. Unlike after `exec`,
//!   limits and descriptors stay, and the `maps` that follow are an answer. The N lines, in the
//!   format of maps, are what the loader maps of the program's file (input). The limit on the stack
//!   decides where the stack, `[vdso]` and the rest are mapped.
//! - `touch r|w|x ADDR = RET`: one instruction that loads from the address, stores there or is
//!   executed there. 0 if the VMA allows it, 1 for `SEGV_MAPERR`, 2 for `SEGV_ACCERR`. It may grow
//!   a stack.
#![no_std]

mod backing;
mod compare;
mod descriptors;
mod error;
mod image;
mod line;
mod machine;
mod parser;
mod replay;
mod snapshot;
mod system_call;
mod traced_kernel;

pub use self::backing::Backing;
pub use self::compare::same;
pub use self::error::{ReplayError, TraceError};
pub use self::line::{
    Access, Answer, Call, Descriptor, FileKind, Limit, Line, Privilege, Ranges, Side, Touch,
};
pub use self::machine::{Machine, Step};
pub use self::parser::{Entry, Parser};
pub use self::replay::Replay;
pub use self::snapshot::{Snapshot, SnapshotVma, SnapshotVmas};
pub use self::traced_kernel::TracedKernel;
