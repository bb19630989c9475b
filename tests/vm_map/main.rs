//! `VmMap` without a lock: against a model, with bad input, and when something fails half-way.

mod all_or_nothing;
mod allocators;
mod bad_input;
mod misbehaving_kernels;
mod mistakes_of_others;
mod model;
