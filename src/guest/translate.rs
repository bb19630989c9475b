//! Guest-physical addresses to the host's, for those who reach into guest memory.

use super::Guest;
use super::backing::HostBacking;
use super::data::GuestAlloc;
use super::region::{Region, RegionKind};
use super::slot::SlotNumber;
use crate::addr_space::Token;
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
    region: Region,
    gpa: u64,
}

impl Translation {
    /// Returns the translation of `gpa`, which lies in the region, if there is memory.
    #[inline]
    pub(super) fn of(region: Region, gpa: u64) -> Option<Self> {
        // What is not mapped, not plugged in, or has yet to arrive, allows no access.
        (!region.prot().is_empty()).then_some(Self { region, gpa })
    }

    /// Returns the guest-physical address.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the host's address of the byte, where the backing has one.
    #[inline]
    pub fn host(&self) -> Option<u64> {
        self.region.host_at(self.gpa)
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
        (self.region.range().last() - self.gpa).saturating_add(1)
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

/// The region that a virtual processor, or a device, found last. Most accesses go where the last
/// one went, and then nothing is searched:
/// [`translate_with`](crate::AddrSpace::translate_with).
///
/// ```
/// use kvma::guest::{Guest, GuestNode, Hint, HostBacking, SlotRequest};
/// use kvma::{AddrSpace, FixedPool, NoHooks, PageSize};
///
/// static NODES: FixedPool<GuestNode, 16> = FixedPool::new();
/// let guest = AddrSpace::new(Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &NODES)?);
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// guest.add_slot(ram, &mut NoHooks).unwrap();
///
/// let mut hint = Hint::new(); // one for each virtual processor or queue
/// for gpa in (0x1000..0x9000).step_by(8) {
///     let host = guest.translate_with(gpa, &mut hint).and_then(|found| found.host());
///     assert_eq!(host, Some(gpa + 0x4000));
/// }
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint {
    found: Option<Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    token: Token,
    /// Of the region, so that a look costs two comparisons.
    first: u64,
    last: u64,
    region: Region,
}

impl Hint {
    /// Returns a hint of nothing.
    pub const fn new() -> Self {
        Self { found: None }
    }

    /// Returns the region and the token of the last lookup, if it has found `gpa`.
    #[inline]
    pub(super) fn region(&self, gpa: u64) -> Option<(&Region, &Token)> {
        let found = self.found.as_ref()?;
        (found.first <= gpa && gpa <= found.last).then_some((&found.region, &found.token))
    }

    /// Keeps what a lookup has found.
    #[inline]
    pub(super) fn keep(&mut self, found: Option<(Region, Token)>) {
        self.found = found.map(|(region, token)| {
            let range = region.range();
            Found { token, first: range.start(), last: range.last(), region }
        });
    }
}
