//! Views of a guest that never change.

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::Guest;
use super::data::GuestAlloc;
use super::fault::{Access, FaultAnswer, LeafSizes};
use super::index::Index;
use super::region::Region;
use super::translate::{Extent, Translation};
use crate::addr_space::{AddrSpace, TreeVersion};
use crate::error::Error;
use crate::sync::RawLock;

/// A guest's regions as they were at one time. Cheap to clone, and never changes: for devices that
/// work on one view of memory throughout a request, and for threads that want no lock in common.
///
/// It says nothing about what has changed since; so whoever writes page tables by it asks the guest
/// itself.
///
/// ```
/// use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// use kvma::{FixedPool, NoHooks, PageSize};
///
/// let nodes = FixedPool::<GuestNode, 16>::new();
/// let mut guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let ram = guest.add_slot(ram, &mut NoHooks).unwrap();
/// let before = guest.snapshot()?;
/// guest.remove_slot(ram, &mut NoHooks).unwrap();
/// assert_eq!(before.translate(0x1234).unwrap().host(), Some(0x5234));
/// assert!(guest.snapshot()?.regions().is_empty());
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone)]
pub struct GuestSnapshot(Arc<Flat>);

struct Flat {
    changes: u64,
    /// Of the extents, by the last byte of each.
    index: Index,
    /// All that a search reads, and most translations.
    extents: Vec<Extent>,
    regions: Vec<Region>,
}

impl Flat {
    fn copy<D, A: GuestAlloc<D>>(&mut self, guest: &Guest<D, A>) {
        self.changes = guest.changes;
        for region in guest.regions(0, u64::MAX) {
            self.extents.push(Extent::of(&region));
            self.regions.push(region);
        }
        self.index.fill(&self.extents, Extent::last);
    }

    /// Returns the position of the region that holds the byte at `gpa`, if there is one.
    #[inline]
    fn position(&self, gpa: u64) -> usize {
        self.index.position(&self.extents, gpa, Extent::last)
    }
}

impl GuestSnapshot {
    /// Returns the regions, ascending.
    pub fn regions(&self) -> &[Region] {
        &self.0.regions
    }

    /// Returns the number of changes that the guest had seen. The later of two snapshots of a guest
    /// has the higher number, and those with the same number are equal.
    pub fn changes(&self) -> u64 {
        self.0.changes
    }

    /// Returns the region that holds the byte at `gpa`. O(log n).
    #[inline]
    pub fn region(&self, gpa: u64) -> Option<Region> {
        let region = self.0.regions.get(self.0.position(gpa))?;
        region.range().contains(gpa).then_some(*region)
    }

    /// Returns where the byte at `gpa` lies, as [`Guest::translate`] does. O(log n).
    #[inline]
    pub fn translate(&self, gpa: u64) -> Option<Translation> {
        let at = self.0.position(gpa);
        Translation::within(self.0.extents.get(at)?, self.0.regions.get(at)?, gpa)
    }

    /// Says what to do about a fault, as [`Guest::fault`] does. O(log n).
    pub fn fault(&self, gpa: u64, access: Access, sizes: LeafSizes) -> FaultAnswer {
        FaultAnswer::of(self.region(gpa), gpa, access, sizes)
    }
}

impl fmt::Debug for GuestSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.regions()).finish()
    }
}

/// Memory for a snapshot, taken before the lock.
struct Room(Arc<Flat>);

impl Room {
    /// Returns room for `count` regions.
    fn new(count: usize) -> Result<Self, Error> {
        let (index, extents, regions) = (Index::new(), Vec::new(), Vec::new());
        let mut flat = Flat { changes: 0, index, extents, regions };
        flat.index.reserve(count)?;
        flat.extents.try_reserve_exact(count).map_err(|_| Error::OutOfMemory)?;
        flat.regions.try_reserve_exact(count).map_err(|_| Error::OutOfMemory)?;
        Ok(Self(Arc::new(flat)))
    }

    /// Returns room for these regions and some more, should any be added meanwhile.
    fn for_some_more(count: usize) -> Result<Self, Error> {
        Self::new(count.saturating_add(count / 8).saturating_add(4))
    }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Returns the regions as they are, in a copy that never changes. O(1) if nothing has changed
    /// since the last one, else O(n).
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`].
    pub fn snapshot(&mut self) -> Result<GuestSnapshot, Error> {
        loop {
            if let Some(latest) = self.latest() {
                return Ok(latest);
            }
            let room = Room::new(self.region_count())?;
            let _ = self.fill(room);
        }
    }

    /// Returns the last snapshot, if nothing has changed since.
    fn latest(&self) -> Option<GuestSnapshot> {
        self.latest.clone().filter(|latest| latest.0.changes == self.changes)
    }

    /// Copies the regions if there is room, so that [`latest`](Self::latest) finds them. Returns
    /// the snapshot before, which is to be dropped after unlock.
    fn fill(&mut self, mut room: Room) -> Option<GuestSnapshot> {
        let flat = Arc::get_mut(&mut room.0)?;
        if flat.regions.capacity() < self.region_count() {
            return Some(GuestSnapshot(room.0));
        }
        flat.copy(self);
        self.latest.replace(GuestSnapshot(room.0))
    }
}

impl<D, A: GuestAlloc<D>, L: RawLock> AddrSpace<Guest<D, A>, L> {
    /// Returns the regions in a copy that never changes: [`Guest::snapshot`]. Takes the lock, and
    /// allocates and frees without it.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Reentrant`].
    pub fn snapshot(&self) -> Result<GuestSnapshot, Error> {
        self.check_reentry()?;
        loop {
            let count = match self.inspect(|guest| guest.latest().ok_or(guest.region_count())) {
                Ok(latest) => return Ok(latest),
                Err(count) => count,
            };
            let room = Room::for_some_more(count)?;
            let mut guest = self.lock_for_change();
            let old = guest.fill(room);
            drop(guest);
            drop(old);
        }
    }

    /// Returns a snapshot and the version of the guest that it shows, if there is memory and if
    /// nobody holds the lock.
    pub(super) fn try_snapshot(&self) -> Option<(GuestSnapshot, TreeVersion)> {
        let latest = |guest: &mut Guest<D, A>, version| match guest.latest() {
            Some(latest) => Ok((latest, version)),
            None => Err(guest.region_count()),
        };
        let count = match self.try_copy(latest)? {
            Ok(latest) => return Some(latest),
            Err(count) => count,
        };
        let room = Room::for_some_more(count).ok()?;
        let (_old, latest) = self.try_copy(|guest, version| {
            let old = guest.fill(room);
            (old, latest(guest, version).ok())
        })?;
        latest
    }
}
