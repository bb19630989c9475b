//! Guest-physical addresses to the host's, for those who reach into guest memory.

use super::Guest;
use super::backing::HostBacking;
use super::data::GuestAlloc;
use super::region::{Region, RegionKind};
use super::slot::SlotNumber;
use crate::addr_space::Token;
use crate::flags::Prot;

/// The place of a byte of guest-physical memory, and how much more lies behind it.
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
