//! The vocabularies of libmmap and mmap-rs, on top of [`VmMap`].
//!
//! Take this layer if you come from one of the two libraries, or if you want what only it has:
//! checkpoints of an address space, mappings that know where they began, or mappings described
//! option by option. It is bookkeeping only: what has to happen to real memory is told to
//! [`Hooks`].
//!
//! - [`Mappings`] is libmmap's address space. Each VMA knows which mapping it is left of, and the
//!   whole can go back to a [`Checkpoint`]. An [`AddrSpace`] puts a lock around it.
//! - [`MapOptions`] is mmap-rs' builder. It makes a [`MapRequest`] for [`VmMap::map`] or
//!   [`Mappings::map`].
//! - [`VmMap::commit`], [`VmMap::lock_pages`] and the calls beside them change what such a request
//!   has mapped. [`WriteXorExec`] keeps memory from being both written and executed.
//!
//! # Calls
//!
//! | libmmap in C | libmmap in C++ | here |
//! |---|---|---|
//! | `mm_init` | `init` | [`Mappings::new`] |
//! | `mm_mapany` | `map_any` | [`Mappings::map_any`] |
//! | `mm_mapat`, `mm_mapat_cb` | `map_at` | [`Mappings::map_at`] |
//! | `mm_unmap`, `mm_unmap_cb` | `unmap` | [`Mappings::unmap`] |
//! | `mm_protect`, `mm_protect_cb` | `protect` | [`Mappings::protect`] |
//! | `mm_querypage` | `query_page` | [`Mappings::query_page`] |
//! | `MMInfo` | `MapInfo` | [`Info`] |
//! | `UpdateFn` | `UpdateFn` | [`UpdateFn`], or any [`Hooks`] |
//! | | `enable_aslr` | [`Mappings::enable_aslr`] |
//! | `mm_mark_original` | `mark_original` | [`Mappings::mark_original`] |
//! | `mm_unmap_non_original` | `unmap_non_original` | [`Mappings::unmap_non_original`], [`Mappings::restore`] |
//! | `mm_free` | `reset` | [`Mappings::reset`] |
//!
//! | mmap-rs | here |
//! |---|---|
//! | `MmapOptions::new(size)` | [`MapOptions::new`] |
//! | `with_address`, `MAP_FIXED` | [`MapOptions::hint`], [`MapOptions::fixed`] |
//! | `with_file`, `SHARED` | [`MapOptions::object`], [`MapOptions::shared`] |
//! | `HUGE_PAGES`, `with_page_size` | [`MapOptions::huge_pages`] |
//! | other flags | [`MapFlags`], and a method of [`MapOptions`] for each |
//! | `map`, `map_mut`, `map_exec`, … | [`MapOptions::prot`], then [`VmMap::map`] |
//! | `reserve*`, then `TryFrom` | [`MapOptions::reserve`], then [`VmMap::commit`] |
//! | — | [`VmMap::decommit`] |
//! | `make_none`, `make_mut`, … | [`VmMap::protect`] |
//! | `map_exec_mut`, `make_exec_mut`, `JIT` | [`MapOptions::jit`], [`WriteXorExec`] |
//! | `lock`, `unlock` | [`VmMap::lock_pages`], [`VmMap::unlock_pages`] |
//! | `split_off`, `split_to`, `merge` | [`VmMap::split_at`], [`VmMap::merge_at`] |
//! | `flush`, `madvise` | [`VmMap::advise`], [`VmMap::change_map_flags`] |
//! | `map_from_existing` | [`VmMap::adopt`] |
//!
//! docs/COMING-FROM.md says what differs behind a call, and why, row by row, with a test for
//! each.
//!
//! # Words that only this layer uses
//!
//! *Reserve*, *commit* and *decommit* mean what they mean to mmap-rs and Windows: to take addresses
//! without memory, to give them memory, and to take the memory away again. A *mapping* is what one
//! call has mapped; unmapping, replacing and protecting a part of it leave several VMAs.
//!
//! [`AddrSpace`]: crate::AddrSpace
//! [`Hooks`]: crate::Hooks
//! [`MapRequest`]: crate::MapRequest
//! [`VmMap`]: crate::VmMap
//! [`VmMap::adopt`]: crate::VmMap::adopt
//! [`VmMap::advise`]: crate::VmMap::advise
//! [`VmMap::change_map_flags`]: crate::VmMap::change_map_flags
//! [`VmMap::commit`]: crate::VmMap::commit
//! [`VmMap::decommit`]: crate::VmMap::decommit
//! [`VmMap::lock_pages`]: crate::VmMap::lock_pages
//! [`VmMap::map`]: crate::VmMap::map
//! [`VmMap::merge_at`]: crate::VmMap::merge_at
//! [`VmMap::protect`]: crate::VmMap::protect
//! [`VmMap::split_at`]: crate::VmMap::split_at
//! [`VmMap::unlock_pages`]: crate::VmMap::unlock_pages

// First, so that rustdoc, which goes by the order of the source, begins with its `new`.
mod mappings;

mod addr_space;
mod checkpoint;
mod commit;
mod map_options;
mod origin;
mod write_xor_exec;

pub use self::checkpoint::Checkpoint;
pub use self::map_options::{MapFlags, MapOptions};
pub use self::mappings::Mappings;
pub use self::origin::{Info, Origin, UpdateFn};
pub use self::write_xor_exec::WriteXorExec;
