//! The contents of the nodes of a guest's maps.

use super::books::Entry;
use super::numbers::Chunk;
use super::region::slot_of;
use super::shown::Leaf;
use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::vma::{Attrs, VmaData, VmaNode};

/// The user data of a guest's maps, which hooks are handed. What they want to know of a piece, they
/// ask [`Region::of_piece`](super::Region::of_piece).
///
/// ```
/// use kvma::guest::{GuestData, Region};
/// use kvma::{Hooks, Piece};
///
/// /// A second stage: the guest's pages that may be in its page tables.
/// struct Stage2;
///
/// impl<D> Hooks<GuestData<D>> for Stage2 {
///     type Error = Error;
///
///     fn on_unmap(&mut self, piece: &Piece<'_, GuestData<D>>) {
///         let region = Region::of_piece(piece);
///         println!("{:?} of {} goes", region.range(), region.slot());
///     }
/// }
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let ram = guest.add_slot(ram, &mut Stage2)?;
/// guest.remove_slot(ram, &mut Stage2)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct GuestData<D>(pub(super) Content<D>);

/// The meaning of a node.
#[derive(Debug)]
pub(super) enum Content<D> {
    /// A region, in the map of regions. The first one of a slot holds the slot.
    Region(Option<SlotEntry<D>>),
    /// Ranges that some slots show, in the map of those.
    Shown(Leaf),
    /// The beginnings of some slots, in the map of numbers.
    Numbers(Chunk),
}

/// A slot, as a whole.
#[derive(Debug)]
pub(super) struct SlotEntry<D> {
    pub(super) page_count: u64,
    /// Those that it was asked for with, and what has been changed for all of it since.
    pub(super) attrs: Attrs,
    /// The position of what it shows, in the map of that.
    pub(super) place: Option<u64>,
    pub(super) data: D,
}

impl<D> SlotEntry<D> {
    /// Returns the slot as the books know it.
    pub(super) fn in_books(&self) -> Entry {
        let place = self.place.map(|place| (place, self.page_count));
        Entry { number: slot_of(self.attrs), place }
    }
}

impl<D> GuestData<D> {
    /// Returns the first region of a slot.
    pub(super) const fn first(slot: SlotEntry<D>) -> Self {
        Self(Content::Region(Some(slot)))
    }

    /// Returns the data of a slot that was refused, to be dropped.
    pub(super) fn refused(data: D) -> Self {
        Self::first(SlotEntry { page_count: 0, attrs: Attrs::default(), place: None, data })
    }

    pub(super) const fn slot(&self) -> Option<&SlotEntry<D>> {
        match &self.0 {
            Content::Region(slot) => slot.as_ref(),
            _ => None,
        }
    }

    pub(super) const fn slot_mut(&mut self) -> Option<&mut SlotEntry<D>> {
        match &mut self.0 {
            Content::Region(slot) => slot.as_mut(),
            _ => None,
        }
    }

    pub(super) const fn take_slot(&mut self) -> Option<SlotEntry<D>> {
        match &mut self.0 {
            Content::Region(slot) => slot.take(),
            _ => None,
        }
    }
}

/// The node that an allocator has to provide for a [`Guest`](super::Guest).
///
/// ```
/// use kvma::guest::{Guest, GuestNode};
/// use kvma::{Error, FixedPool, PageSize};
///
/// /// The hypervisor's data in each slot: the name that its monitor shows.
/// type Name = &'static str;
///
/// static NODES: FixedPool<GuestNode<Name>, 64> = FixedPool::new();
/// let guest = Guest::<Name, _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &NODES)?;
/// assert_eq!(guest.slot_count(), 0);
/// # Ok::<(), Error>(())
/// ```
pub type GuestNode<D = ()> = VmaNode<GuestData<D>>;

/// An allocator that the nodes of a [`Guest`](super::Guest) can come from.
///
/// Implemented for every type that qualifies; it only saves writing the two bounds out.
///
/// ```
/// use kvma::guest::{Guest, GuestAlloc};
///
/// /// Prints the memory of any guest.
/// fn print<D, A: GuestAlloc<D>>(guest: &Guest<D, A>) {
///     for region in guest.regions(0, u64::MAX) {
///         println!("{region:?}");
///     }
/// }
/// # use kvma::guest::{GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// guest.inspect(print);
/// # Ok::<(), Error>(())
/// ```
pub trait GuestAlloc<D>: NodeAlloc<GuestNode<D>> + Clone {}

impl<D, A: NodeAlloc<GuestNode<D>> + Clone> GuestAlloc<D> for A {}

/// Only regions are split and merged, and the slot stays with the lowest part. The other nodes
/// stand for one thing each, and their ranges are never cut.
impl<D> VmaData for GuestData<D> {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        Self(Content::Region(None))
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        matches!((&self.0, &right.0), (Content::Region(_), Content::Region(_)))
    }

    fn fork(&self, _range: VmRange) -> Self {
        Self(Content::Region(None))
    }
}
