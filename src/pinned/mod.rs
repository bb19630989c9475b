//! User data that a lookup without the lock may look at: pinned by a guard, dropped after readers.
//!
//! # Which way to the data
//!
//! A page fault that has found its VMA wants what is behind it: the file, the memory object, the
//! device. [`lookup`](crate::AddrSpace::lookup) cannot give a reference to the user data, since the
//! VMA may be unmapped on another processor at that moment and its data dropped. There are three
//! ways:
//!
//! - **Under the lock**: [`inspect`](crate::AddrSpace::inspect), and clone an `Arc` in there.
//!   Simple, and slow where many processors fault at once: all take one lock and write to one
//!   count.
//! - **A key**: [`VmaData::key`](crate::VmaData::key), a number that a lookup copies. It must mean
//!   something also after the VMA has gone, such as an index into a table of objects, in which the
//!   kernel looks it up under a lock or RCU of its own and may find nothing. Never a *pointer*:
//!   that reads freed memory, and [`still_valid`](crate::AddrSpace::still_valid), asked afterwards,
//!   comes too late.
//! - **Pinned**, this module: the pointer, made safe.
//!   [`lookup_pinned`](crate::AddrSpace::lookup_pinned) takes a guard that was made before, and
//!   gives the snapshot and a reference to the data that lives as long as the guard. Whoever drops
//!   the last counted reference meanwhile leaves the object to be dropped later.
//!
//! # Use
//!
//! ```
//! use kvma::pinned::{Pinned, Shared, StaticDomain};
//! use kvma::{AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};
//! use std::sync::Arc;
//!
//! kvma::pinned_domain! {
//!     /// Files, whatever process maps them.
//!     struct Files;
//! }
//!
//! struct File {
//!     name: &'static str,
//! }
//!
//! # fn main() -> Result<(), kvma::Error> {
//! let map = VmMap::new(0x1000..=0xfff_ffff, PageSize::SIZE_4K, Arc::new(BoxAlloc::new()))?;
//! let space = AddrSpace::new(map);
//! let file = Shared::<_, Files>::new(File { name: "libc.so" });
//! let request = MapRequest::new(Placement::Fixed(0x5000), 0x2000, Attrs::new(Prot::READ));
//! space.map(request.with_data(file), &mut NoHooks)?;
//!
//! // In the fault handler.
//! let guard = Files::enter();
//! let (vma, file) = space.lookup_pinned(0x6123, &guard).unwrap();
//! assert_eq!((vma.range().start(), file.name), (0x5000, "libc.so"));
//!
//! // On another processor meanwhile.
//! space.unmap(0x5000, 0x2000, &mut NoHooks)?;
//!
//! assert!(!space.still_valid(vma.token()));
//! assert_eq!(file.name, "libc.so"); // still there
//! assert!(Pinned::upgrade(file).is_none()); // though nobody holds it any more
//! drop(guard);
//!
//! // Now and then, where the files' `drop` may run: from a timer, when idle, when short of memory.
//! assert_eq!(Files::collect(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! A handler that sleeps takes a counted reference by [`Pinned::upgrade`] and drops the guard
//! before: objects of the whole domain wait for a guard, whatever it has looked up.
//!
//! A kernel with RCU of its own implements [`PinnedData`] for its own pointer type and needs
//! nothing else of this module; nor does it need the feature `alloc`, which the rest does.
//!
//! # Where objects are dropped
//!
//! - In the `drop` of a last [`Shared`], if there is no reader: at once, as with `Arc`. The crate
//!   drops user data after flush and unlock, see [`Hooks::release`](crate::Hooks).
//! - Later, if there are readers: in the `drop` of another last `Shared` of this domain, or in
//!   [`StaticDomain::collect`]. The order is not that in which they were given up. What is given up
//!   last waits until somebody asks: a kernel calls `collect` now and then, wherever
//!   [`Domain::deferred`] says that it is worth it.
//! - Never in [`StaticDomain::enter`], in a lookup, in the drop of a [`Guard`], or in
//!   [`Shared::drop_later`].
//!
//! Readers who come one after the other without a pause do not keep objects from being dropped:
//! those who enter after an object was given up are not waited for. One reader who stays is.
//!
//! # Cost
//!
//! Entering and leaving are two atomic additions to a cache line that other processors seldom use,
//! and a full fence. `lookup_pinned` is a `lookup`. A `Shared` is an `Arc`; dropping the last one
//! reads 16 cache lines more. Nothing allocates but [`Shared::new`], nothing waits, and there is no
//! lock: all calls may come from an interrupt handler, apart from those that run a `drop` which may
//! not.
//!
//! # Why it is sound
//!
//! Reader R makes a guard (count raised, fence), looks up, finds object O, reads it, lowers the
//! count. Dropper D unmaps O's last VMA and drops the last reference.
//!
//! 1. R's lookup found O's address in a node that had the same even generation before and after, so
//!    at some time O's VMA was mapped and held a reference.
//! 2. Whatever drops that reference first makes the generation odd: data changes in write sections
//!    only. R did not see the odd one, so R's load comes before D's store in the generation's
//!    order.
//! 3. The count of references reaches zero after that: D's store happens before D's fence, on
//!    whatever thread the last reference went.
//! 4. R's fence comes before its load, D's after its store. Both are sequentially consistent, and
//!    were D's first, R would have seen the odd generation. So R's is first.
//! 5. Therefore each load of R's count behind D's fence sees R counted, or having left.
//! 6. D, or whoever collects after it, drops O only when each count has been seen at zero at some
//!    time behind the fence, R's too. So R had left, and by release and acquire its reading of O
//!    happens before the drop.
//! 7. Which of the two epochs R is counted in does not matter for that, since both are waited for.
//!    It matters for progress alone: once the epoch that readers are not sent to has been seen
//!    empty they are sent there, and the other one runs empty.
//! 8. The guard's type names the domain and so does the object's, so R is counted where D looks.

#![allow(unsafe_code)]

#[cfg(any(feature = "alloc", loom))]
mod domain;
mod lookup;
#[cfg(any(feature = "alloc", loom))]
mod shared;

#[cfg(any(feature = "alloc", loom))]
pub use domain::{Domain, Guard, StaticDomain};
pub use lookup::PinnedData;
#[cfg(any(feature = "alloc", loom))]
pub use shared::{Pinned, Shared};
