//! Recorded address-space traces.
//!
//! A trace holds what a real Linux kernel was asked (system calls that change an address space,
//! with the inputs they depend on) and what it answered. Everything left of a line's last ` = ` is
//! input, and so is the first `maps` block after `exec`; the rest are answers. All names are
//! borrowed from the text of the trace, and nothing allocates, so a kernel can replay a trace
//! before it has a heap.
//!
//! - [`Parser`] turns the text into [`Entry`]s;
//! - [`Snapshot`] reads a `maps` block, and [`same`] compares two lists of VMAs;
//! - [`Replay`] asks [`kvma::linux::Mm`] what the trace asked Linux.
//!
//! # More than the recorded traces say
//!
//! These lines are not in the traces of programs. Numbers are hexadecimal, as in all others.
//!
//! | line | meaning |
//! |---|---|
//! | `mincore ADDR LEN = RET` | the vector is the owner's affair |
//! | `process_madvise own\|other ADVICE FLAGS [ADDR LEN]… = RET` | the ranges of the vector; `other`: those of the other one of the two that the last fork has made |
//! | `pkey_mprotect ADDR LEN PROT KEY = RET` · `pkey_alloc FLAGS RIGHTS = RET` · `pkey_free KEY = RET` | |
//! | `name ADDR LEN [00:00 0 [anon:NAME]] = RET` | `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`, without a name to take it away |
//! | `fork = RET` | 0 stands for the child's number. The lines that follow are about the parent; what an earlier fork has made besides is gone |
//! | `child` · `parent` | the lines that follow are about that one (input); descriptors and privileges are the same for both, unless a line says otherwise |
//! | `execve START_BRK N = RET` + N lines | a new image in the place of the old: unlike after `exec`, limits and descriptors stay, and the `maps` that follow are an answer. The lines, as maps has them, show what the loader maps of the program's file (input); where the stack goes, `[vdso]` and the rest, says the stack limit |
//! | `touch r\|w\|x ADDR = RET` | an instruction that loads from there, stores there or lies there: 0 if the VMA allows it, 1 for SEGV_MAPERR, 2 for SEGV_ACCERR. It may grow a stack |
#![no_std]

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

pub use compare::same;
pub use error::TraceError;
pub use line::{
    Access, Answer, Backing, Call, Descriptor, FileKind, Limit, Line, Privilege, Ranges, Side,
    Touch,
};
pub use machine::Machine;
pub use parser::{Entry, Parser};
pub use replay::{Replay, ReplayError, Step};
pub use snapshot::{Snapshot, SnapshotVma};
pub use traced_kernel::TracedKernel;
