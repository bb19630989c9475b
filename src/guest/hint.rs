//! Hints: state that a virtual processor keeps between its translations.

use super::Guest;
use super::data::{GuestAlloc, GuestNode};
use super::region::Region;
#[cfg(any(feature = "alloc", loom))]
use super::snapshot::GuestSnapshot;
use super::space::region_of;
use super::translate::{Extent, Translation};
#[cfg(any(feature = "alloc", loom))]
use crate::addr_space::TreeVersion;
use crate::addr_space::{AddrSpace, Token};
use crate::node::ReadSide;
use crate::sync::RawLock;

/// The state that a virtual processor, or a device, keeps between its calls of
/// [`translate_with`](AddrSpace::translate_with): the region that it found last, and with the
/// feature `alloc` a view of all regions, which is searched as long as the guest is unchanged.
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
#[derive(Clone, Debug, Default)]
pub struct Hint {
    found: Option<Found>,
    #[cfg(any(feature = "alloc", loom))]
    view: View,
}

/// The region that was found last.
#[derive(Clone, Copy, Debug)]
struct Found {
    token: Token,
    /// Its first and its last byte.
    bounds: (u64, u64),
    extent: Extent,
    region: Region,
}

/// A snapshot of the guest, and the version of the guest that it shows.
#[cfg(any(feature = "alloc", loom))]
#[derive(Clone, Debug)]
struct View {
    version: TreeVersion,
    snapshot: Option<GuestSnapshot>,
    /// The searches that had to be made without it.
    searches: usize,
}

#[cfg(any(feature = "alloc", loom))]
impl View {
    const NONE: Self = Self { version: TreeVersion::NONE, snapshot: None, searches: 0 };

    /// Notes that a search was made. Returns `true` when so many were that a new snapshot, should
    /// it be copied for this hint alone, does not cost much more than they did.
    fn is_due(&mut self) -> bool {
        self.searches += 1;
        let regions = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.regions().len());
        let is_due = self.searches > 2 + regions / 8;
        if is_due {
            self.searches = 0;
        }
        is_due
    }
}

#[cfg(any(feature = "alloc", loom))]
impl Default for View {
    fn default() -> Self {
        Self::NONE
    }
}

impl Hint {
    /// Returns a hint of nothing.
    pub const fn new() -> Self {
        Self {
            found: None,
            #[cfg(any(feature = "alloc", loom))]
            view: View::NONE,
        }
    }
}

impl<D, A: GuestAlloc<D> + ReadSide<GuestNode<D>>, L: RawLock> AddrSpace<Guest<D, A>, L> {
    /// Returns where the byte at `gpa` lies, as [`translate`](Self::translate) does, and faster for
    /// whoever asks often: a virtual processor, a device's queue.
    ///
    /// Looks first where the last call with this hint found something, which is O(1) with an
    /// allocator that is [type-stable](crate::NodeAlloc::TYPE_STABLE). With the feature `alloc`,
    /// a hint that has had to search often enough keeps a [snapshot](Self::snapshot), the one that
    /// all hints of the guest share: as long as nothing at all has changed, a call is one load, a
    /// look at a table or two, and a search among the few regions that lie near. So memory may be
    /// allocated and freed here, in O(regions) at most once for each change of the guest, and under
    /// the lock if nobody holds it. Where that may not be, [`translate`](Self::translate) never
    /// does.
    ///
    /// ```
    /// use kvma::guest::{Guest, GuestNode, Hint, HostBacking, SlotRequest};
    /// use kvma::{AddrSpace, FixedPool, NoHooks, PageSize};
    ///
    /// static POOL: FixedPool<GuestNode, 16> = FixedPool::new();
    /// let guest = AddrSpace::new(Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &POOL)?);
    /// let ram = SlotRequest::ram(0, 0x10_0000, HostBacking::Host { addr: 0x800_0000 });
    /// let ram = guest.add_slot(ram, &mut NoHooks).unwrap();
    /// let mut hint = Hint::new();
    /// assert_eq!(guest.translate_with(0x1234, &mut hint).unwrap().host(), Some(0x800_1234));
    /// guest.remove_slot(ram, &mut NoHooks).unwrap();
    /// assert!(guest.translate_with(0x1234, &mut hint).is_none());
    /// # Ok::<(), kvma::Error>(())
    /// ```
    #[inline]
    pub fn translate_with(&self, gpa: u64, hint: &mut Hint) -> Option<Translation> {
        #[cfg(any(feature = "alloc", loom))]
        if self.is_version(&hint.view.version)
            && let Some(snapshot) = &hint.view.snapshot
        {
            return snapshot.translate(gpa);
        }
        let Found { extent, region, .. } = self.find(gpa, hint)?;
        Translation::within(extent, region, gpa)
    }

    /// Finds the region that holds `gpa` without a view. Not inlined, so that a call that has one
    /// does not pay for this.
    #[inline(never)]
    fn find<'h>(&self, gpa: u64, hint: &'h mut Hint) -> Option<&'h Found> {
        let is_found = |found: &Found| {
            let (first, last) = found.bounds;
            (first..=last).contains(&gpa) && self.still_valid(&found.token)
        };
        if !hint.found.as_ref().is_some_and(is_found) {
            hint.found = self.lookup(gpa).map(|found| {
                let region = region_of(&found);
                let bounds = (region.range().start(), region.range().last());
                Found { token: *found.token(), bounds, extent: Extent::of(&region), region }
            });
            #[cfg(any(feature = "alloc", loom))]
            if hint.view.is_due() {
                self.renew(&mut hint.view);
            }
        }
        hint.found.as_ref()
    }

    /// Takes a snapshot for a view, if there is memory and nobody holds the lock.
    #[cfg(any(feature = "alloc", loom))]
    #[cold]
    fn renew(&self, view: &mut View) {
        if let Some((snapshot, version)) = self.try_snapshot() {
            view.snapshot = Some(snapshot);
            view.version = version;
        }
    }
}
