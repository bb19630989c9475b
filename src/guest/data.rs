//! What the nodes of a guest's maps hold.

use crate::node::NodeAlloc;
use crate::range::VmRange;
use crate::vma::{VmaData, VmaNode};

/// The user data of a guest's maps, which hooks are handed. What they want to know of a piece, they
/// ask [`Region::of_piece`](super::Region::of_piece).
#[derive(Debug)]
pub struct GuestData<D>(pub(super) Content<D>);

/// The meaning of a node.
#[derive(Debug)]
pub(super) enum Content<D> {
    /// A region, in the map of regions.
    Region,
    /// A slot, in the map of slots.
    Slot(SlotEntry<D>),
    /// A use of the host's memory, or a range of it that no slot may show.
    Use,
}

/// The part of a slot that its attributes do not hold.
#[derive(Debug)]
pub(super) struct SlotEntry<D> {
    pub(super) range: VmRange,
    /// The place in the map of uses, if there is one.
    pub(super) place: Option<u64>,
    pub(super) data: D,
}

impl<D> GuestData<D> {
    pub(super) const REGION: Self = Self(Content::Region);
    pub(super) const USE: Self = Self(Content::Use);
}

/// The node that an allocator has to provide for a [`Guest`](super::Guest).
pub type GuestNode<D = ()> = VmaNode<GuestData<D>>;

/// An allocator that the nodes of a [`Guest`](super::Guest) can come from.
///
/// Implemented for every type that qualifies; it only saves writing the two bounds out.
pub trait GuestAlloc<D>: NodeAlloc<GuestNode<D>> + Clone {}

impl<D, A: NodeAlloc<GuestNode<D>> + Clone> GuestAlloc<D> for A {}

/// Only regions are split and merged. The other nodes stand for one thing each, and their ranges
/// are never cut.
impl<D> VmaData for GuestData<D> {
    fn split(&mut self, _range: VmRange, _at: u64) -> Self {
        Self(Content::Region)
    }

    fn can_merge(&self, _range: VmRange, right: &Self, _right_range: VmRange) -> bool {
        matches!((&self.0, &right.0), (Content::Region, Content::Region))
    }

    fn fork(&self, _range: VmRange) -> Self {
        Self(Content::Region)
    }
}
