//! Threads on real processors that change a space as fast as they can, against page faults that
//! take no lock.
//!
//! Each test runs a second; `KVMA_STRESS_SECONDS` sets how long, `KVMA_SEED` what is done.

mod addr_space;
mod linux;
mod pinned;
