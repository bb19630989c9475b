//! `/proc/PID/maps` and the flags of smaps: written byte for byte as Linux writes them, and read.

mod parse;

pub use parse::{MapsError, MapsLine, object, parse, vm_flags};
