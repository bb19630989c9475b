//! `/proc/PID/maps` and the flags of smaps: written byte for byte as Linux writes them, and read.

mod parse;
mod write;

pub use parse::{MapsError, MapsLine, object, parse, parse_bytes, vm_flags};
pub use write::{Maps, MapsEntry, Name};
