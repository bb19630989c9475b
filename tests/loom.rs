//! Every interleaving of faults and changes, on the real code, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release --test loom --target-dir target/loom
//! ```
//!
//! loom runs each model again and again, with another order of atomic accesses, and other values
//! that the memory model lets a load see, until it has been through all of them. Where a comment
//! says that a model is bounded, it goes through those with at most so many preemptions instead.
//! Models assert that there was more than one execution: a search that finds nothing to vary proves
//! nothing.
//!
//! `tests/loom/mutants.sh` shows that these models notice when a line of the protocol is missing.
#![cfg(loom)]

mod loom {
    pub mod faults;
    pub mod lookups;
    pub mod pinned;
    pub mod support;
    pub mod writers;
}
