//! `VmMap` without a lock: against a model, with bad input, when something fails half-way, and as
//! kernels use it.

mod all_or_nothing;
mod allocators;
mod attrs;
mod bad_input;
mod hooks;
mod misbehaving_kernels;
mod mistakes_of_others;
mod model;
mod printing;
mod random_placement;
mod remap;
mod small_worlds;
mod user_data;
