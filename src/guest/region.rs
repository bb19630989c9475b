//! A region: a range of guest-physical memory of which every page is treated alike.

use core::fmt;

use bitflags::bitflags;

use super::backing::HostBacking;
use super::slot::SlotNumber;
use crate::flags::{MemType, Prot};
use crate::hooks::Piece;
use crate::range::VmRange;
use crate::vma::{Attrs, Backing};

/// The kind of a range of guest-physical addresses.
///
/// ```
/// use kvma::guest::RegionKind;
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// # guest.add_slot(SlotRequest::mmio(0xfee0_0000, 0x1000, 7), &mut NoHooks)?;
/// # guest.add_slot(SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0 }), &mut NoHooks)?;
/// // The memory map that firmware is given: RAM, and what else there is.
/// let kinds: Vec<_> = guest.inspect(|guest| {
///     guest.regions(0, u64::MAX).map(|region| (region.range().start(), region.kind())).collect()
/// });
/// assert_eq!(kinds, [(0, RegionKind::Ram), (0xfee0_0000, RegionKind::Mmio)]);
/// assert!(RegionKind::Ram.is_memory() && !RegionKind::Mmio.is_mapped());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// Memory of the guest's own.
    Ram = 0,
    /// Memory that the guest cannot write to, such as firmware.
    Rom = 1,
    /// Registers of a device that the hypervisor emulates: every access traps.
    Mmio = 2,
    /// Registers or memory of a real device, which the guest reaches itself.
    Passthrough = 3,
    /// Nothing may be here. An access is an error.
    Reserved = 4,
    /// Memory that other guests or the hypervisor see too.
    Shared = 5,
}

impl RegionKind {
    #[inline]
    const fn from_bits(bits: u16) -> Self {
        match bits & bits::KIND {
            0 => Self::Ram,
            1 => Self::Rom,
            2 => Self::Mmio,
            3 => Self::Passthrough,
            5 => Self::Shared,
            _ => Self::Reserved,
        }
    }

    /// Returns `true` for what has memory behind it: [`Ram`](Self::Ram), [`Rom`](Self::Rom),
    /// [`Shared`](Self::Shared).
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Ram | Self::Rom | Self::Shared)
    }

    /// Returns `true` for what is mapped in the guest's page tables: memory and
    /// [`Passthrough`](Self::Passthrough).
    pub const fn is_mapped(self) -> bool {
        self.is_memory() || matches!(self, Self::Passthrough)
    }
}

bitflags! {
    /// Special states of a region.
    ///
    /// ```
    /// use kvma::guest::{RegionState, SlotChange};
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// let ram = SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0 });
    /// let ram = guest.add_slot(ram, &mut NoHooks)?;
    /// // Migration begins: writes are noted from now on.
    /// guest.modify_slot(ram, SlotChange::new().set(RegionState::LOG_DIRTY), &mut NoHooks)?;
    /// let state = guest.inspect(|guest| guest.region(0x1000).map(|region| region.state()));
    /// assert_eq!(state, Some(RegionState::LOG_DIRTY));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RegionState: u16 {
        /// The guest cannot write here, whatever the kind.
        const READ_ONLY = 1 << 6;
        /// Writes are noted in a [`DirtyBitmap`](super::DirtyBitmap). Pages are mapped one by one.
        const LOG_DIRTY = 1 << 7;
        /// The pages are the guest's alone; the hypervisor cannot read them.
        const PRIVATE = 1 << 8;
        /// The block is not plugged in: the slot keeps its addresses, but there is no memory.
        const UNPLUGGED = 1 << 9;
        /// The contents have yet to arrive from where the guest came from.
        const AWAITED = 1 << 10;
    }
}

/// The contents of a VMA's sixteen user flags.
mod bits {
    pub(super) const KIND: u16 = 0b111;
    pub(super) const TAG_SHIFT: u32 = 3;
    pub(super) const TAG: u16 = 0b111 << TAG_SHIFT;
    /// The contents of the 64 user bits, above the slot's number.
    pub(super) const LEAF_SHIFT: u32 = 32;
    pub(super) const PROT_SHIFT: u32 = 40;
}

/// The kinds of backing, as the user flags have them.
pub(super) mod tags {
    pub(in super::super) const NONE: u16 = 0;
    pub(in super::super) const HOST: u16 = 1;
    pub(in super::super) const FRAMES: u16 = 2;
    pub(in super::super) const FILE: u16 = 3;
    pub(in super::super) const DEVICE: u16 = 4;
}

/// A range of guest-physical memory of which every page is treated alike, or a part of one. A copy.
///
/// ```
/// use kvma::guest::{Guest, GuestNode, HostBacking, RegionState, SlotRequest};
/// use kvma::{FixedPool, NoHooks, PageSize};
///
/// let nodes = FixedPool::<GuestNode, 16>::new();
/// let mut guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let ram = guest.add_slot(ram, &mut NoHooks).unwrap();
/// guest.unplug(ram, 0x3000, 0x2000, &mut NoHooks).unwrap();
///
/// // The slot has three regions now.
/// let starts: Vec<_> = guest.regions(0, u64::MAX).map(|region| region.range().start()).collect();
/// assert_eq!(starts, [0x1000, 0x3000, 0x5000]);
/// let region = guest.region(0x3000).unwrap();
/// assert!(region.state().contains(RegionState::UNPLUGGED) && region.slot() == ram);
/// assert_eq!(guest.region(0x5000).unwrap().host_at(0x5010), Some(0x9010));
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region {
    range: VmRange,
    attrs: Attrs,
}

impl Region {
    #[inline]
    pub(super) const fn new(range: VmRange, attrs: Attrs) -> Self {
        Self { range, attrs }
    }

    /// Returns the region that a hook is told of.
    pub fn of_piece<V>(piece: &Piece<'_, V>) -> Self {
        Self::new(piece.range(), piece.attrs())
    }

    /// Returns what `range` was with the attributes `old`, which a hook is told of as well.
    pub const fn reading(range: VmRange, old: Attrs) -> Self {
        Self::new(range, old)
    }

    /// Returns the range of guest-physical addresses.
    pub const fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the number of the slot that the region belongs to.
    #[inline]
    pub const fn slot(&self) -> SlotNumber {
        slot_of(self.attrs)
    }

    /// Returns the kind.
    #[inline]
    pub const fn kind(&self) -> RegionKind {
        RegionKind::from_bits(self.attrs.user_flags())
    }

    /// Returns the backing of the first byte.
    #[inline]
    pub const fn backing(&self) -> HostBacking {
        let tag = (self.attrs.user_flags() & bits::TAG) >> bits::TAG_SHIFT;
        HostBacking::decode(tag, self.attrs.backing())
    }

    /// Returns the backing of the byte at `gpa`, which lies in the region.
    #[inline]
    pub const fn backing_at(&self, gpa: u64) -> HostBacking {
        self.backing().advance(gpa.wrapping_sub(self.range.start()))
    }

    /// Returns the host's address of the byte at `gpa`, which lies in the region, where the backing
    /// has one.
    #[inline]
    pub const fn host_at(&self, gpa: u64) -> Option<u64> {
        const HOST: u16 = tags::HOST << bits::TAG_SHIFT;
        match self.attrs.backing() {
            Backing::Object { offset, .. } if self.attrs.user_flags() & bits::TAG == HOST => {
                Some(offset.wrapping_add(gpa.wrapping_sub(self.range.start())))
            }
            _ => None,
        }
    }

    /// Returns what is special about it.
    #[inline]
    pub const fn state(&self) -> RegionState {
        RegionState::from_bits_truncate(self.attrs.user_flags())
    }

    /// Returns the accesses that the guest may make now: none where every access traps.
    #[inline]
    pub const fn prot(&self) -> Prot {
        self.attrs.prot()
    }

    /// Returns the accesses that the slot was asked to allow.
    pub(super) const fn wanted_prot(&self) -> Prot {
        Prot::from_bits_truncate((self.attrs.user_bits() >> bits::PROT_SHIFT) as u8)
    }

    /// Returns how the processor may cache the memory.
    pub const fn mem_type(&self) -> MemType {
        self.attrs.mem_type()
    }

    /// Returns the size of the largest leaf that the backing allows, `None` without a limit.
    #[inline]
    pub const fn max_leaf(&self) -> Option<u64> {
        let shift = (self.attrs.user_bits() >> bits::LEAF_SHIFT) & 63;
        if shift == 0 { None } else { Some(1 << shift) }
    }

    /// Returns the attributes, as the hooks have them.
    pub const fn attrs(&self) -> Attrs {
        self.attrs
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("range", &self.range)
            .field("slot", &self.slot().get())
            .field("kind", &self.kind())
            .field("backing", &self.backing())
            .field("state", &self.state())
            .field("prot", &self.prot())
            .finish()
    }
}

/// Returns `attrs` with all that a region's attributes hold but the slot's number.
#[inline]
pub(super) fn encode(
    attrs: Attrs,
    kind: RegionKind,
    backing: HostBacking,
    state: RegionState,
    prot: Prot,
    max_leaf: Option<u64>,
) -> Attrs {
    let (tag, backing) = backing.encode();
    let leaf = u64::from(max_leaf.map_or(0, u64::trailing_zeros));
    let user_bits = leaf << bits::LEAF_SHIFT | u64::from(prot.bits()) << bits::PROT_SHIFT;
    let attrs = attrs.with_backing(backing).with_user_bits(user_bits);
    let attrs = attrs.with_user_flags(kind as u16 | tag << bits::TAG_SHIFT);
    with_state(attrs, state)
}

/// Returns the attributes with the number of the slot.
pub(super) const fn with_slot(attrs: Attrs, number: SlotNumber) -> Attrs {
    let bits = attrs.user_bits() & !(u32::MAX as u64);
    attrs.with_user_bits(bits | number.get() as u64)
}

/// Returns the number of the slot that the attributes hold.
pub(super) const fn slot_of(attrs: Attrs) -> SlotNumber {
    SlotNumber::new(attrs.user_bits() as u32)
}

/// Returns the attributes with another state, and the protection that follows from it.
pub(super) const fn with_state(attrs: Attrs, state: RegionState) -> Attrs {
    let flags = attrs.user_flags() & !RegionState::all().bits() | state.bits();
    let wanted = Prot::from_bits_truncate((attrs.user_bits() >> bits::PROT_SHIFT) as u8);
    let kind = RegionKind::from_bits(flags);
    let away = state.intersects(RegionState::UNPLUGGED.union(RegionState::AWAITED));
    let prot = if away || !kind.is_mapped() {
        Prot::NONE
    } else if matches!(kind, RegionKind::Rom) || state.contains(RegionState::READ_ONLY) {
        wanted.difference(Prot::WRITE)
    } else {
        wanted
    };
    attrs.with_user_flags(flags).with_prot(prot)
}
