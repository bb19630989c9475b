//! The second stage: from guest-physical addresses to the machine's.

mod source;
mod tables;

pub use self::source::Source;
pub use self::tables::{Found, Tables};
