//! Objects that are dropped after their readers: [`kvma::pinned`](crate::pinned) says what for, and
//! why it is sound.

mod domain;
mod shared;

pub use self::domain::{Domain, Guard, StaticDomain};
pub use self::shared::{Pinned, Shared};
