#![doc = include_str!("../README.md")]
#![no_std]
// Without a feature, the trait and the hooks are left.
#![cfg_attr(
    not(all(feature = "x86_64_015", feature = "page_table_multiarch_06")),
    allow(rustdoc::broken_intra_doc_links)
)]

mod hooks;
mod table;

#[cfg(feature = "page_table_multiarch_06")]
pub mod page_table_multiarch_06;
#[cfg(feature = "x86_64_015")]
pub mod x86_64_015;

pub use self::hooks::{Frames, TableHooks};
pub use self::table::{Leaf, PageTable, Reach};
