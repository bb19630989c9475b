//! The contents of the nodes of a guest's maps.

use super::numbers::Chunk;
use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::vm_map::Mark;
use crate::vma::{VmaData, VmaNode};

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
    /// A region, in the map of regions. That with which a slot began knows where the slot is in the
    /// map of slots, as long as that has not changed.
    Region(Option<Mark>),
    /// A slot, in the map of slots.
    Slot(SlotEntry<D>),
    /// A range of the host's memory that no slot may show, in the map of slots.
    Kept,
    /// A slot that has gone, in the map of slots.
    Vacant,
    /// The places of slots, in the map of numbers.
    Numbers(Chunk),
}

/// The part of a slot that its attributes do not hold.
#[derive(Debug)]
pub(super) struct SlotEntry<D> {
    pub(super) range: VmRange,
    pub(super) data: D,
}

impl<D> Content<D> {
    pub(super) fn into_slot(self) -> Option<SlotEntry<D>> {
        match self {
            Self::Slot(entry) => Some(entry),
            _ => None,
        }
    }
}

impl<D> GuestData<D> {
    pub(super) const KEPT: Self = Self(Content::Kept);
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

/// Only regions are split and merged. The other nodes stand for one thing each, and their ranges
/// are never cut.
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
