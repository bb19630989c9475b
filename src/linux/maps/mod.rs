//! `/proc/PID/maps` and the flags of smaps: written byte for byte as Linux writes them, and read.

mod adopt;
mod parse;
mod write;

pub use self::adopt::AdoptError;
pub use self::parse::{MapsError, MapsLine, object, parse, parse_bytes, vm_flags};
pub use self::write::{Maps, MapsEntry, Name};
