//! All interleavings of page faults and changes, on the real code, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p kvma --features loom --test loom \
//!     --release --target-dir target/loom
//! ```
//!
//! loom runs each model again and again, each time with another order of atomic accesses, or with
//! another value that the memory model lets a load see, until it has tried all of them. A model
//! whose comment says that it is bounded tries only the executions with at most so many
//! preemptions. Each model asserts that there was more than one execution: a search that finds
//! nothing to vary proves nothing.
//!
//! `tests/loom/mutants.sh` shows that these models fail when a line of the protocol is missing.
#![cfg(loom)]

mod exchange;
mod faults;
mod given_back;
mod guest;
mod hints;
mod invalidation;
mod lookups;
mod moves;
mod pinned;
mod support;
mod walks;
mod writers;
