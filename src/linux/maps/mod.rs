//! `/proc/PID/maps` and the flags of smaps: written byte for byte as Linux writes them, and read.

mod adopt;
mod parse;
mod places;
mod unlocked;
mod write;

pub use self::adopt::AdoptError;
pub use self::parse::{MapsError, MapsLine, object, parse, parse_bytes, vm_flags};
pub(super) use self::places::Places;
pub use self::write::{Maps, MapsEntry, Name};
