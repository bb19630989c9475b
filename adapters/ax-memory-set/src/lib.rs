#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod area;
mod backend;
mod error;
mod metadata;
mod set;

pub use self::area::MemoryArea;
pub use self::backend::MappingBackend;
pub use self::error::{MappingError, MappingResult};
pub use self::set::MemorySet;
