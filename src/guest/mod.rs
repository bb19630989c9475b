//! Guest-physical memory for hypervisors: what is where, what to map on a fault, what may change.
//!
//! A [`Guest`] is to a guest what a [`VmMap`] is to a process. It is built of memory slots: ranges
//! of guest-physical addresses that are added, moved and removed whole, each with a number, a
//! [kind](RegionKind), a [backing](HostBacking) that the hypervisor names, and the hypervisor's
//! data. What the hypervisor does to a part of a slot (plugging blocks, private pages, pages that a
//! migration still owes) divides it into regions, which merge again when they have become alike.
//!
//! ```
//! use kvma::guest::{Access, FaultAnswer, Guest, GuestNode, HostBacking, LeafSizes, SlotRequest};
//! use kvma::{AddrSpace, FixedPool, NoHooks, PageSize, Prot};
//!
//! static POOL: FixedPool<GuestNode, 64> = FixedPool::new();
//! let guest = Guest::new(0..=(1 << 48) - 1, PageSize::SIZE_4K, &POOL)?;
//! let guest = AddrSpace::new(guest);
//!
//! // Sixteen megabytes of RAM, at 2 MiB and 4 KiB of the host, and a trapped device.
//! let ram = HostBacking::Host { addr: 0x20_1000 };
//! let ram = guest.add_slot(SlotRequest::ram(0x1000, 16 << 20, ram), &mut NoHooks).unwrap();
//! guest.add_slot(SlotRequest::mmio(0xfee0_0000, 0x1000, 7), &mut NoHooks).unwrap();
//!
//! // A fault, without the lock: the largest leaf that both sides allow.
//! let sizes = LeafSizes::SIZE_4K_2M_1G;
//! let FaultAnswer::Map { leaf, token } = guest.fault(0x20_3456, Access::WRITE, sizes) else {
//!     panic!("RAM is mapped");
//! };
//! assert_eq!((leaf.gpa(), leaf.size(), leaf.host()), (0x20_0000, 2 << 20, Some(0x40_0000)));
//! // Asked under the page-table lock, before the leaf is written: has nothing in it changed?
//! assert!(guest.still_valid_for(&token, leaf.gpa(), leaf.size()));
//!
//! let answer = guest.fault(0xfee0_0020, Access::READ, sizes);
//! assert!(matches!(answer, FaultAnswer::Emulate { device: 7, offset: 0x20, .. }));
//!
//! // Where is the host's page in the guest? What is left from there?
//! let uses = guest.inspect(|guest| guest.host_uses(0x20_2000, 0x1000).count());
//! assert_eq!(uses, 1);
//! assert_eq!(guest.translate(0x2fff).unwrap().remaining(), (16 << 20) - 0x1fff);
//! guest.remove_slot(ram, &mut NoHooks).unwrap();
//! # Ok::<(), kvma::Error>(())
//! ```
//!
//! # Three maps, one allocator
//!
//! - *Regions*, by guest-physical address: a [`VmMap`], which is what faults look up. All that an
//!   answer needs is in a region's attributes, which readers without the lock copy: kind, backing
//!   and state, slot number, protection. Regions of different slots never merge, because their
//!   numbers differ; those of one slot merge when they become alike. The first region of a slot
//!   holds the slot, with the data.
//! - *What slots show* of the host's memory or of a file, up to six ranges to a node. Slots may
//!   show the same memory (aliases). So the map has layers: a range goes to the lowest layer where
//!   it is free, and a search asks each layer. It costs O(k log n), where k is how many slots lie
//!   over one another at most. There are at most [`MAX_LAYERS`]. Slots that show neither, such as a
//!   device's registers, are not in it.
//! - *Numbers*: where the slot with each number begins, eight numbers to a node.
//!
//! A slot takes a node, one more if it is the first of eight with such numbers, and one more if the
//! node of what it shows is full. Each region that is split off takes one more. When a slot is
//! removed, its region's node is given back; the others wait for the slot to come again, or for the
//! next change that needs any.
//!
//! # What others do
//!
//! KVM keeps two trees and a hash table, twice, so that readers have one copy while the other
//! changes. QEMU renders its tree of regions into a flat view for each change, and rust-vmm clones
//! a sorted vector, both O(n); readers keep the old one. Bare-metal hypervisors mostly have a
//! `BTreeMap` behind a lock, which faults take. Here changes are O(log n), faults take no lock, and
//! whoever wants a view that never changes takes a [snapshot](Guest::snapshot), which is copied
//! once for each change that somebody looks at.
//!
//! # The hooks
//!
//! They are those of the engine ([`Hooks`]) over [`GuestData`], and edit the second
//! stage. [`Region::of_piece`] tells what a piece is.
//!
//! - A slot that is added is an `on_map`, one that is removed an `on_unmap` for each region, one
//!   that is moved both, with one flush between.
//! - Whatever else changes is an `on_protect`. If the new protection allows nothing, the region has
//!   lost its pages: a block was unplugged, or has yet to arrive. If [`RegionState::PRIVATE`] has
//!   changed, entries must go, as the other kind of page is mapped on the next fault. If
//!   [`RegionState::LOG_DIRTY`] is new, writes must be noticed from now on. [`Region::reading`] of
//!   the old attributes tells.
//! - Ballooning is advice: [`Advice::DontNeed`](crate::hooks::Advice::DontNeed).
//! - [`WatchWrites`] is one more, for dirty logging.

// First, so that rustdoc, which goes by the order of the source, begins with these calls.
mod construct;

mod add;
mod backing;
mod blocks;
mod books;
mod data;
mod dirty;
mod fault;
mod hint;
#[cfg(any(feature = "alloc", loom))]
mod index;
mod modify;
mod numbers;
mod refusal;
mod region;
mod remove;
mod shown;
mod slot;
#[cfg(any(feature = "alloc", loom))]
mod snapshot;
mod space;
mod state;
mod tables;
mod translate;
mod uses;

use core::fmt;

pub use self::backing::HostBacking;
pub use self::blocks::{Block, Blocks};
pub use self::books::MAX_LAYERS;
use self::books::{Books, page_of};
pub use self::data::{GuestAlloc, GuestData, GuestNode};
pub use self::dirty::{DirtyBitmap, WatchWrites};
pub use self::fault::{Access, FaultAnswer, Leaf, LeafSizes, Reason};
pub use self::hint::Hint;
pub use self::modify::SlotChange;
pub use self::refusal::Refusal;
use self::region::slot_of;
pub use self::region::{Region, RegionKind, RegionState};
pub use self::slot::{RemovedSlot, Slot, SlotNumber, SlotRequest};
#[cfg(any(feature = "alloc", loom))]
pub use self::snapshot::GuestSnapshot;
pub use self::tables::Tables;
pub use self::translate::Translation;
pub use self::uses::HostUse;
use crate::Hooks;
use crate::addr_space::HasVmMap;
use crate::error::Error;
use crate::range::{PageSize, VmRange};
use crate::vm_map::{Update, VmMap};
use crate::vma::Vma;

/// The guest-physical memory of one guest. The [module's docs](self) explain.
///
/// `D` is the hypervisor's data in each slot, `A` a handle of the node allocator.
///
/// There is no lock inside. [`AddrSpace`](crate::AddrSpace) puts one around it, and answers faults
/// without it; its calls have the same names.
///
/// Dropping a guest drops the slots' data without calling hooks: [`clear`](Self::clear) it first to
/// have the second stage emptied.
///
/// ```
/// use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// use kvma::{FixedPool, NoHooks, PageSize};
///
/// let nodes = FixedPool::<GuestNode, 64>::new();
/// let mut guest = Guest::new(0..=(1 << 48) - 1, PageSize::SIZE_4K, &nodes)?;
/// let ram = SlotRequest::ram(0, 16 << 20, HostBacking::Host { addr: 0x4000_0000 });
/// guest.add_slot(ram, &mut NoHooks).expect("the range is free");
/// assert_eq!(guest.translate(0x5123).unwrap().host(), Some(0x4000_5123));
/// # Ok::<(), kvma::Error>(())
/// ```
///
/// The [module's docs](self) have faults, and a device.
pub struct Guest<D, A: GuestAlloc<D>> {
    regions: VmMap<GuestData<D>, A>,
    books: Books<D, A>,
    /// The number of changes so far, by which a snapshot is known to be the latest.
    changes: u64,
    #[cfg(any(feature = "alloc", loom))]
    latest: Option<GuestSnapshot>,
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Returns an update, which carries hooks into several operations, and the work that they owe
    /// out of them. They are one change with one flush.
    pub fn update<'h, H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        hooks: &'h mut H,
    ) -> Update<'h, GuestData<D>, A, H> {
        self.regions.update(hooks)
    }

    /// Returns the page size.
    pub fn page_size(&self) -> PageSize {
        self.regions.page_size()
    }

    /// Returns the range of guest-physical addresses.
    pub fn space(&self) -> VmRange {
        self.regions.space()
    }

    /// Returns the number of slots. O(1).
    pub fn slot_count(&self) -> usize {
        self.books.slot_count()
    }

    /// Returns the number of regions: one for each slot, and one more for each part of a slot that
    /// differs from what lies before it. O(1).
    pub fn region_count(&self) -> usize {
        self.regions.len()
    }

    /// Returns the region that holds the byte at `gpa`. O(log n).
    pub fn region(&self, gpa: u64) -> Option<Region> {
        self.regions.find(gpa).map(|vma| Region::new(vma.range(), vma.attrs()))
    }

    /// Iterates over the parts of regions that lie in `len` bytes from `gpa`, ascending, from both
    /// ends. Gaps are passed over, and unaligned numbers are fine: pages that are touched in part
    /// count whole. O(log n), then O(1) amortised for each.
    pub fn regions(
        &self,
        gpa: u64,
        len: u64,
    ) -> impl DoubleEndedIterator<Item = Region> + Clone + use<'_, D, A> {
        self.regions.pieces(gpa, len).map(|piece| Region::new(piece.range(), piece.attrs()))
    }

    /// Returns the slot with this number. O(log n).
    pub fn slot(&self, number: SlotNumber) -> Option<Slot<'_, D>> {
        let first = self.regions.find(self.books.numbers.start(number)?)?;
        Self::slot_with(number, &first)
    }

    /// Iterates over all slots, by number. O(log n) for each.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = Slot<'_, D>> + Clone {
        self.books.numbers.iter().filter_map(|(number, start)| {
            let first = self.regions.find(start)?;
            Self::slot_with(number, &first)
        })
    }

    /// Returns the slot with this number, if that is its first region. Another slot may begin where
    /// one did that has gone.
    fn slot_with<'a>(number: SlotNumber, first: &Vma<'a, GuestData<D>>) -> Option<Slot<'a, D>> {
        Slot::of_first(first).filter(|slot| slot.number() == number)
    }

    /// Changes the hypervisor's data of a slot, and returns what `change` returns. No hook is
    /// called, and tokens stay valid. O(log n).
    pub fn update_slot_data<R>(
        &mut self,
        number: SlotNumber,
        change: impl FnOnce(&mut D) -> R,
    ) -> Option<R> {
        let start = self.books.numbers.start(number)?;
        let change = |data: &mut GuestData<D>| {
            let slot = data.slot_mut().filter(|slot| slot_of(slot.attrs) == number)?;
            Some(change(&mut slot.data))
        };
        self.regions.amend(start, change)?
    }

    /// Checks every invariant from scratch, in O(n log n): each slot is covered by regions of its
    /// own, each region belongs to a slot, and what the hosts' pages are used for is written down
    /// for every slot and for nothing else. For tests.
    ///
    /// # Errors
    ///
    /// Says what is wrong first.
    pub fn check(&self) -> Result<(), &'static str> {
        self.regions.check()?;
        self.books.check()?;
        let (mut pages, mut count, mut shown): (u64, _, _) = (0, 0, 0);
        for slot in self.slots() {
            count += 1;
            let range = slot.range();
            let Some(len) = range.len() else { return Err("a slot is as long as the space") };
            if !self.regions.covers(range.start(), len) {
                return Err("a slot has a gap");
            }
            for region in self.regions(range.start(), len) {
                let ahead = region.range().start() - range.start();
                if region.slot() != slot.number() {
                    return Err("a region lies in another slot");
                }
                if region.kind() != slot.region().kind()
                    || region.backing() != slot.region().backing().advance(ahead)
                {
                    return Err("a region differs from its slot");
                }
            }
            pages += range.page_count();
            self.books.check_entry(slot.entry(), range.start())?;
            let backing = slot.region().backing();
            let place = backing.is_findable().then(|| self.books.pages(backing, len));
            if slot.entry().place.map(|(place, count)| (page_of(place), count)) != place {
                return Err("a slot is not entered by what it shows");
            }
            shown += usize::from(place.is_some());
        }
        if (count, shown) != (self.slot_count(), self.books.shown_count()) {
            return Err("an entry has no slot");
        }
        if pages == self.regions.iter().map(|vma| vma.page_count()).sum() {
            Ok(())
        } else {
            Err("a region is in no slot")
        }
    }

    /// Refuses a range that leaves the space.
    fn check_in_space(regions: &VmMap<GuestData<D>, A>, range: VmRange) -> Result<(), Error> {
        let space = regions.space();
        if space.contains(range.start()) && space.contains(range.last()) {
            Ok(())
        } else {
            Err(Error::OutOfRange)
        }
    }

    /// Returns the refusal that names what lies in a range: of several slots, the lowest.
    fn in_the_way<E>(regions: &VmMap<GuestData<D>, A>, start: u64, len: u64) -> Refusal<E> {
        let found = regions.overlapping(start, len).next();
        let region = found.map(|vma| Region::new(vma.range(), vma.attrs()));
        match region {
            Some(region) => Refusal::InTheWay(region.slot()),
            None => Refusal::NotMapped,
        }
    }
}

impl<D, A: GuestAlloc<D>> HasVmMap for Guest<D, A> {
    type Data = GuestData<D>;
    type Alloc = A;

    fn vm_map(&self) -> &VmMap<GuestData<D>, A> {
        &self.regions
    }
}

impl<D, A: GuestAlloc<D>> fmt::Debug for Guest<D, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions(0, u64::MAX)).finish()
    }
}
