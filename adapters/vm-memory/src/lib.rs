#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use kvma::guest::{Guest, HostBacking, Refusal, SlotRequest};
use kvma::{Error, Heap, NoHooks, PageSize};
use vm_memory::{
    Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionCollectionError,
    GuestUsize, MemoryRegionAddress,
};

type Regions<R> = Guest<Arc<R>, Heap>;

/// A sorted set of regions of guest memory that do not overlap.
///
/// ```
/// use std::sync::Arc;
///
/// use kvma_vm_memory::GuestRegionCollection;
/// use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestMemoryRegionBytes};
///
/// struct Bank(u64, u64);
///
/// impl GuestMemoryRegion for Bank {
///     type B = ();
///     fn len(&self) -> u64 {
///         self.1
///     }
///     fn start_addr(&self) -> GuestAddress {
///         GuestAddress(self.0)
///     }
///     fn bitmap(&self) {}
/// }
///
/// impl GuestMemoryRegionBytes for Bank {}
///
/// let mut memory = GuestRegionCollection::from_regions(vec![Bank(0, 0x1000)])?;
/// let before = memory.clone();
/// memory.add_region(Arc::new(Bank(0x8000, 0x1000)))?;
/// assert_eq!(memory.find_region(GuestAddress(0x8123)).map(|bank| bank.0), Some(0x8000));
/// assert!(before.find_region(GuestAddress(0x8123)).is_none());
/// # Ok::<(), vm_memory::GuestRegionCollectionError>(())
/// ```
pub struct GuestRegionCollection<R> {
    /// Shared by clones; whoever changes it copies it first.
    regions: Option<Arc<Regions<R>>>,
}

impl<R> Clone for GuestRegionCollection<R> {
    fn clone(&self) -> Self {
        Self { regions: self.regions.clone() }
    }
}

impl<R> Default for GuestRegionCollection<R> {
    fn default() -> Self {
        Self { regions: None }
    }
}

impl<R: GuestMemoryRegion> GuestRegionCollection<R> {
    /// Creates an empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a collection of regions that are sorted by their address. O(n log n).
    ///
    /// # Errors
    ///
    /// [`NoMemoryRegion`](GuestRegionCollectionError::NoMemoryRegion) for none, or for one that
    /// cannot be held; [`MemoryRegionOverlap`](GuestRegionCollectionError::MemoryRegionOverlap), or
    /// [`UnsortedMemoryRegions`](GuestRegionCollectionError::UnsortedMemoryRegions).
    pub fn from_regions(regions: Vec<R>) -> Result<Self, GuestRegionCollectionError> {
        Self::from_arc_regions(regions.into_iter().map(Arc::new).collect())
    }

    /// Creates a collection of shared regions that are sorted by their address. O(n log n).
    ///
    /// # Errors
    ///
    /// Those of [`from_regions`](Self::from_regions).
    pub fn from_arc_regions(regions: Vec<Arc<R>>) -> Result<Self, GuestRegionCollectionError> {
        if regions.is_empty() {
            return Err(GuestRegionCollectionError::NoMemoryRegion);
        }
        let mut collection = Self::new();
        let mut before = None;
        for region in regions {
            if before.is_some_and(|before| before > region.start_addr()) {
                return Err(GuestRegionCollectionError::UnsortedMemoryRegions);
            }
            before = Some(region.start_addr());
            collection.add_region(region)?;
        }
        Ok(collection)
    }

    /// Returns a collection with one region more. O(n log n); [`add_region`](Self::add_region) is
    /// for those who own the collection.
    ///
    /// # Errors
    ///
    /// [`MemoryRegionOverlap`](GuestRegionCollectionError::MemoryRegionOverlap), or
    /// [`NoMemoryRegion`](GuestRegionCollectionError::NoMemoryRegion) if it cannot be held.
    pub fn insert_region(&self, region: Arc<R>) -> Result<Self, GuestRegionCollectionError> {
        let mut collection = self.clone();
        collection.add_region(region)?;
        Ok(collection)
    }

    /// Returns a collection without the region of `size` bytes at `base`, and the region.
    /// O(n log n); [`take_region`](Self::take_region) is for those who own the collection.
    ///
    /// # Errors
    ///
    /// [`NoMemoryRegion`](GuestRegionCollectionError::NoMemoryRegion) if that is no region.
    pub fn remove_region(
        &self,
        base: GuestAddress,
        size: GuestUsize,
    ) -> Result<(Self, Arc<R>), GuestRegionCollectionError> {
        let mut collection = self.clone();
        let region = collection.take_region(base, size)?;
        Ok((collection, region))
    }

    /// Adds a region. O(log n), unless a clone shares the regions: then they are copied first.
    ///
    /// # Errors
    ///
    /// Those of [`insert_region`](Self::insert_region); then nothing has changed.
    pub fn add_region(&mut self, region: Arc<R>) -> Result<(), GuestRegionCollectionError> {
        let (start, len) = (region.start_addr().raw_value(), region.len());
        let host = region.get_host_address(MemoryRegionAddress(0));
        let host = host.map(|host| host.addr() as u64).ok().filter(|&host| {
            // What the map of uses can hold with pages of one byte.
            host.checked_add(len).is_some_and(|end| end <= 1 << 52)
        });
        let backing = match host {
            Some(addr) => HostBacking::Host { addr },
            None => HostBacking::Frames { source: 0, offset: 0 },
        };
        let request = SlotRequest::ram(start, len, backing).with_data(region);
        match self.own()?.add_slot(request, &mut NoHooks) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(error(&refusal)),
        }
    }

    /// Removes the region of `size` bytes at `base`, and returns it. Cost as of
    /// [`add_region`](Self::add_region).
    ///
    /// # Errors
    ///
    /// Those of [`remove_region`](Self::remove_region); then nothing has changed.
    pub fn take_region(
        &mut self,
        base: GuestAddress,
        size: GuestUsize,
    ) -> Result<Arc<R>, GuestRegionCollectionError> {
        let removed = self.own()?.remove_range(base.raw_value(), size, &mut NoHooks);
        removed.map(|slot| slot.into_data()).map_err(|refusal| error(&refusal))
    }

    /// Returns the regions as kvma has them, unless there have never been any. Addresses and
    /// lengths are in bytes, and each region is a memory slot.
    pub fn guest(&self) -> Option<&Guest<Arc<R>, Heap>> {
        self.regions.as_deref()
    }

    /// Returns the regions, which nobody else shares.
    fn own(&mut self) -> Result<&mut Regions<R>, GuestRegionCollectionError> {
        let own = match self.regions.take() {
            None => Arc::new(empty()?),
            Some(shared) if Arc::strong_count(&shared) > 1 => match copy(&shared) {
                Ok(copy) => Arc::new(copy),
                Err(error) => {
                    self.regions = Some(shared);
                    return Err(error);
                }
            },
            Some(own) => own,
        };
        let own = self.regions.insert(own);
        Arc::get_mut(own).ok_or(GuestRegionCollectionError::NoMemoryRegion)
    }
}

fn empty<R>() -> Result<Regions<R>, GuestRegionCollectionError> {
    let refused = |_: Error| GuestRegionCollectionError::NoMemoryRegion;
    let byte = PageSize::new(1).map_err(refused)?;
    Guest::new(0..=u64::MAX - 1, byte, Heap).map_err(refused)
}

fn copy<R>(regions: &Regions<R>) -> Result<Regions<R>, GuestRegionCollectionError> {
    let mut copy = empty()?;
    for slot in regions.slots() {
        let request = slot.request().with_number(slot.number());
        let request = request.with_data(Arc::clone(slot.data()));
        copy.add_slot(request, &mut NoHooks).map_err(|refusal| error(&refusal))?;
    }
    Ok(copy)
}

fn error(refusal: &Refusal) -> GuestRegionCollectionError {
    match refusal {
        Refusal::InTheWay(_) => GuestRegionCollectionError::MemoryRegionOverlap,
        _ => GuestRegionCollectionError::NoMemoryRegion,
    }
}

impl<R: GuestMemoryRegion> GuestMemoryBackend for GuestRegionCollection<R> {
    type R = R;

    fn num_regions(&self) -> usize {
        self.regions.as_ref().map_or(0, |regions| regions.slot_count())
    }

    fn find_region(&self, addr: GuestAddress) -> Option<&R> {
        let regions = self.regions.as_deref()?;
        let number = regions.region(addr.raw_value())?.slot();
        regions.slot(number).map(|slot| slot.data().as_ref())
    }

    fn iter(&self) -> impl Iterator<Item = &R> {
        self.regions.as_deref().into_iter().flat_map(|regions| {
            let numbers = regions.regions(0, u64::MAX).map(|region| region.slot());
            numbers.filter_map(|number| regions.slot(number).map(|slot| slot.data().as_ref()))
        })
    }
}

impl<R: fmt::Debug> fmt::Debug for GuestRegionCollection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.regions.iter().flat_map(|regions| regions.slots());
        f.debug_list().entries(slots.map(|slot| slot.data())).finish()
    }
}
