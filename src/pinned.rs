//! Lookups without the lock that return the user data itself, pinned by a guard.
//!
//! # Three ways to the user data
//!
//! A page fault needs the object behind its VMA: the file, the memory object, the device.
//! [`lookup`](crate::AddrSpace::lookup) cannot return a reference to the user data, because another
//! processor may unmap the VMA and drop its data at any time. A kernel can choose between:
//!
//! - **The lock.** Clone an `Arc` in [`inspect`](crate::AddrSpace::inspect). This is simple, but
//!   processors that fault at the same time wait for one lock and write to one count.
//! - **A key.** A lookup copies the number that [`VmaData::key`](crate::VmaData::key) returns. The
//!   number must still mean something when the VMA has gone: for example an index into a table of
//!   objects that the kernel reads under its own lock or RCU, and in which the object may be
//!   missing. A key must not be used as a *pointer*: it may point to freed memory, and
//!   [`still_valid`](crate::AddrSpace::still_valid) tells that only after the memory has been read.
//! - **A pinned reference**, which this module adds. The reader makes a guard first, and
//!   [`lookup_pinned`](crate::AddrSpace::lookup_pinned) returns the snapshot and a reference to the
//!   data that is valid as long as the guard exists. If the data is removed from the map meanwhile,
//!   it is dropped after the guard.
//!
//! # Example
//!
//! ```
//! use kvma::pinned::{Pinned, Shared, StaticDomain};
//! use kvma::{AddrSpace, Attrs, BoxAlloc, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap};
//! use std::sync::Arc;
//!
//! kvma::pinned_domain! {
//!     /// The read side of all mapped files.
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
//! // In the page fault handler:
//! let guard = Files::enter();
//! let (vma, file) = space.lookup_pinned(0x6123, &guard).unwrap();
//! assert_eq!((vma.range().start(), file.name), (0x5000, "libc.so"));
//!
//! // Meanwhile, on another processor:
//! space.unmap(0x5000, 0x2000, &mut NoHooks)?;
//!
//! assert!(!space.still_valid(vma.token()));
//! assert_eq!(file.name, "libc.so"); // the guard keeps it
//! assert!(Pinned::upgrade(file).is_none()); // but no VMA refers to it any more
//! drop(guard);
//!
//! // Now and then, where `File::drop` may run: in a timer, when idle, when memory is short.
//! assert_eq!(Files::collect(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! A guard keeps every object of its domain from being dropped. So a fault handler that is about to
//! sleep takes a counted reference with [`Pinned::upgrade`], and drops the guard.
//!
//! A kernel that has RCU implements [`PinnedData`] for its own pointer type. It needs nothing else
//! from this module, and does not need the feature `alloc`.
//!
//! # When objects are dropped
//!
//! - When the last [`Shared`] is dropped and there is no reader, the object is dropped at once, as
//!   by `Arc`. The crate drops user data after the TLB flush, and without the lock.
//! - If there are readers, the object is deferred. It is dropped when these readers have left: in
//!   the `drop` of another last `Shared` of the domain, or in [`StaticDomain::collect`]. Deferred
//!   objects are dropped in no particular order. No drop happens by itself when the last reader
//!   leaves, so a kernel calls `collect` now and then if [`Domain::deferred`] is not zero.
//! - [`StaticDomain::enter`], lookups, the drop of a [`Guard`] and [`Shared::drop_later`] never
//!   drop an object.
//!
//! A deferred object waits only for readers that entered before it was deferred. Readers that
//! overlap each other without end do not delay it; a single reader that stays does.
//!
//! # Cost
//!
//! A guard costs two atomic additions and a full fence; the additions go to one of 16 cache lines,
//! so processors seldom slow each other down. `lookup_pinned` costs as much as `lookup`. Dropping
//! the last reference to an object reads these 16 cache lines. Only [`Shared::new`] and
//! [`Shared::try_new`] allocate. There is no lock and nothing waits, so everything may be called in
//! an interrupt handler, except where an object's `drop` may not run.
//!
//! # Soundness
//!
//! A reader makes a guard (it raises a count, then comes a fence), looks up, finds an object, reads
//! it, and lowers the count. A dropper removes the object from its last VMA and drops the last
//! reference.
//!
//! 1. The lookup found the object's address in a node whose generation was even, and the same
//!    before and after. So at some time during the lookup the VMA was mapped and held a reference.
//! 2. User data changes and goes only in write sections, which begin by making the generation odd.
//!    The reader has not seen that store of the section in which the VMA lost the reference: its
//!    load comes before the store in the modification order of the generation.
//! 3. The count of references reaches zero later. So the store happens before the fence in
//!    `Domain::retire`, on whichever thread the last reference is dropped.
//! 4. The reader's fence precedes its load, and the dropper's fence follows the store. Both are
//!    sequentially consistent. If the dropper's were first, the load would have seen the store; so
//!    the reader's is first.
//! 5. Therefore every load of the reader's count after the dropper's fence sees that the reader was
//!    counted: it is not zero until the reader has left.
//! 6. An object is dropped only after every count has been seen at zero, each at some time after
//!    the fence. The loads acquire what the reader released when it left, so that everything it
//!    read was read before the drop.
//! 7. It does not matter in which epoch the reader is counted, since both are waited for. Epochs
//!    are there for progress: as soon as the epoch that new readers do not use has been seen empty,
//!    new readers are sent there, and the other one runs empty.
//! 8. Guard and object name their domain in their types, so the reader is counted where the dropper
//!    looks.

pub use crate::node::pinned_data::PinnedData;
#[cfg(any(feature = "alloc", loom))]
pub use crate::sync::pinned::{Domain, Guard, Pinned, Shared, StaticDomain};
