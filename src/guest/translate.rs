//! Guest-physical addresses to the host's, for those who reach into guest memory.

use super::Guest;
use super::backing::HostBacking;
use super::data::GuestAlloc;
use super::region::{Region, RegionKind};
use super::slot::SlotNumber;
use crate::flags::Prot;

/// The place of a byte of guest-physical memory, and how much more lies behind it.
///
/// ```
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// # let host = vec![7_u8; 0x4000];
/// # let addr = host.as_ptr() as u64;
/// # let page = (addr + 0xfff & !0xfff) - addr;
/// # let backing = HostBacking::Host { addr: addr + page };
/// guest.add_slot(SlotRequest::ram(0x1000, 0x2000, backing), &mut NoHooks)?;
/// // A device reads 16 bytes of the guest's memory, which need not lie in one piece.
/// let (mut gpa, mut left, mut pieces) = (0x1ff8, 16, Vec::new());
/// while left > 0 {
///     let found = guest.translate(gpa).ok_or("no memory there")?;
///     let len = found.remaining().min(left);
///     pieces.push((found.host(), len));
///     (gpa, left) = (gpa + len, left - len);
/// }
/// assert_eq!(pieces.len(), 1); // the slot has more than one page, and is one piece
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    gpa: u64,
    extent: Extent,
    region: Region,
}

/// The part of a region that most translations are about: all that is read for those. Half a line
/// of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(32))]
pub(super) struct Extent {
    /// The host's address of a byte, less that of the guest, where the backing has one.
    host: Option<u64>,
    /// The first byte. Of a region that allows no access, the last one there is.
    first: u64,
    last: u64,
}

impl Extent {
    #[inline]
    pub(super) fn of(region: &Region) -> Self {
        let (range, host) = (region.range(), region.host_at(0));
        let first = if region.prot().is_empty() { u64::MAX } else { range.start() };
        Self { host, first, last: range.last() }
    }

    /// Returns the region's last byte.
    #[inline]
    pub(super) fn last(&self) -> u64 {
        self.last
    }
}

impl Translation {
    /// Returns the translation of `gpa`, which lies in the region, if there is memory.
    #[inline]
    pub(super) fn of(region: Region, gpa: u64) -> Option<Self> {
        Self::within(&Extent::of(&region), &region, gpa)
    }

    /// Returns the translation of `gpa` in the region with this extent, if it lies there and if
    /// there is memory. The region is not looked at before somebody asks for what is in it.
    #[inline]
    pub(super) fn within(extent: &Extent, region: &Region, gpa: u64) -> Option<Self> {
        // What is not mapped, not plugged in, or has yet to arrive, allows no access.
        let is_there = extent.first <= gpa && gpa <= extent.last;
        if !is_there || (gpa == u64::MAX && region.prot().is_empty()) {
            return None;
        }
        Some(Self { gpa, extent: *extent, region: *region })
    }

    /// Returns the guest-physical address.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the host's address of the byte, where the backing has one.
    #[inline]
    pub fn host(&self) -> Option<u64> {
        Some(self.extent.host?.wrapping_add(self.gpa))
    }

    /// Returns what backs the byte.
    #[inline]
    pub fn backing(&self) -> HostBacking {
        self.region.backing_at(self.gpa)
    }

    /// Returns how many bytes from this one on lie together, with the same permissions: what is
    /// left of the region, never its size. At least one; `u64::MAX` for 2^64.
    #[inline]
    pub fn remaining(&self) -> u64 {
        (self.extent.last() - self.gpa).saturating_add(1)
    }

    /// Returns the accesses that the guest may make.
    #[inline]
    pub fn prot(&self) -> Prot {
        self.region.prot()
    }

    /// Returns the kind of the region.
    pub fn kind(&self) -> RegionKind {
        self.region.kind()
    }

    /// Returns the slot.
    pub fn slot(&self) -> SlotNumber {
        self.region.slot()
    }

    /// Returns the region.
    pub fn region(&self) -> Region {
        self.region
    }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Returns where the byte at `gpa` lies, if there is memory that the guest can reach: not a
    /// trapped device, a reserved range, a block that is not plugged in, or a page that has yet to
    /// arrive. O(log n).
    #[inline]
    pub fn translate(&self, gpa: u64) -> Option<Translation> {
        Translation::of(self.region(gpa)?, gpa)
    }
}
