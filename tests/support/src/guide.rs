//! The pages of the guide, so that their examples are tests. They are here, and not in the library,
//! because its package holds no docs/.

#[doc = include_str!("../../../docs/before-the-heap.md")]
mod before_the_heap {}
#[doc = include_str!("../../../docs/from-btreemap.md")]
mod from_btreemap {}
#[doc = include_str!("../../../docs/from-libmmap.md")]
mod from_libmmap {}
#[doc = include_str!("../../../docs/from-memory_set.md")]
mod from_memory_set {}
#[doc = include_str!("../../../docs/from-mmap-rs.md")]
mod from_mmap_rs {}
#[doc = include_str!("../../../docs/from-rangemap.md")]
mod from_rangemap {}
#[doc = include_str!("../../../docs/guest-memory.md")]
mod guest_memory {}
#[doc = include_str!("../../../docs/linux.md")]
mod linux {}
#[doc = include_str!("../../../docs/page-faults.md")]
mod page_faults {}
#[doc = include_str!("../../../docs/page-tables.md")]
mod page_tables {}
