//! The compatibility layer: options, checkpoints and restore, and everything that
//! docs/COMING-FROM.md promises to those who come from other crates.

mod coming_from;
mod mappings;
mod mappings_locked;
mod options;
