//! Memory slots: their numbers, what is asked for, what is there.

use core::fmt;

use super::backing::HostBacking;
use super::books::Entry;
use super::data::{GuestData, SlotEntry};
use super::region::{Region, RegionKind, RegionState, encode, slot_of};
use crate::error::Error;
use crate::flags::{MemType, Prot, SplitGranularity};
use crate::range::{PageRange, PageSize, VmRange};
use crate::vma::{Attrs, Vma};

/// The number of a memory slot. The lowest free one is taken, unless another is asked for; numbers
/// of removed slots are used again.
///
/// ```
/// use kvma::guest::SlotNumber;
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// // A monitor that numbers slots itself, as KVM's ioctl has it.
/// let number = SlotNumber::new(5);
/// let ram = SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0 }).with_number(number);
/// assert_eq!(guest.add_slot(ram, &mut NoHooks)?, number);
/// guest.remove_slot(SlotNumber::new(5), &mut NoHooks)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotNumber(u32);

impl SlotNumber {
    /// The largest number.
    pub const MAX: Self = Self(u32::MAX - 2);
    /// Stands in for a slot where the hypervisor keeps its own memory out of guests.
    pub(super) const NOBODY: Self = Self(u32::MAX - 1);

    /// Returns the slot with this number. One above [`MAX`](Self::MAX) is never there.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.0)
    }
}

impl fmt::Display for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}", self.0)
    }
}

/// A request for a new memory slot.
///
/// ```
/// use kvma::guest::{HostBacking, RegionState, SlotRequest};
///
/// let ram = SlotRequest::ram(0x8000_0000, 1 << 30, HostBacking::Host { addr: 0x4000_0000 })
///     .with_state(RegionState::LOG_DIRTY)
///     .with_data("bank 0");
/// assert_eq!(ram.len(), 1 << 30);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SlotRequest<D = ()> {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) kind: RegionKind,
    pub(super) backing: HostBacking,
    pub(super) state: RegionState,
    pub(super) prot: Prot,
    pub(super) max_leaf: Option<u64>,
    pub(super) attrs: Attrs,
    pub(super) number: Option<SlotNumber>,
    pub(super) data: D,
}

impl SlotRequest<()> {
    /// Requests `len` bytes of a kind from `start`, both multiples of the page size. Accesses of
    /// every sort are allowed, as far as the kind goes.
    pub const fn new(start: u64, len: u64, kind: RegionKind, backing: HostBacking) -> Self {
        Self {
            start,
            len,
            kind,
            backing,
            state: RegionState::empty(),
            prot: Prot::all(),
            max_leaf: None,
            attrs: Attrs::new(Prot::NONE),
            number: None,
            data: (),
        }
    }

    /// Requests RAM.
    pub const fn ram(start: u64, len: u64, backing: HostBacking) -> Self {
        Self::new(start, len, RegionKind::Ram, backing)
    }

    /// Requests ROM.
    pub const fn rom(start: u64, len: u64, backing: HostBacking) -> Self {
        Self::new(start, len, RegionKind::Rom, backing)
    }

    /// Requests the trapped registers of a device, from its offset zero.
    pub const fn mmio(start: u64, len: u64, device: u64) -> Self {
        Self::new(start, len, RegionKind::Mmio, HostBacking::Device { device, offset: 0 })
    }

    /// Requests that nothing be there.
    pub const fn reserved(start: u64, len: u64) -> Self {
        Self::new(start, len, RegionKind::Reserved, HostBacking::None)
    }
}

impl<D> SlotRequest<D> {
    /// Sets the hypervisor's data.
    pub fn with_data<E>(self, data: E) -> SlotRequest<E> {
        let Self { start, len, kind, backing, state, prot, max_leaf, attrs, number, .. } = self;
        SlotRequest { start, len, kind, backing, state, prot, max_leaf, attrs, number, data }
    }

    /// Asks for this number, which must be free.
    #[must_use]
    pub fn with_number(self, number: SlotNumber) -> Self {
        Self { number: Some(number), ..self }
    }

    /// Sets what is special about the whole slot to begin with. A slot for memory that comes later,
    /// block by block, begins as [`RegionState::UNPLUGGED`].
    #[must_use]
    pub fn with_state(self, state: RegionState) -> Self {
        Self { state, ..self }
    }

    /// Sets the accesses that the guest may make; all unless told otherwise.
    #[must_use]
    pub fn with_prot(self, prot: Prot) -> Self {
        Self { prot, ..self }
    }

    /// Sets how the processor may cache the memory.
    #[must_use]
    pub fn with_mem_type(self, mem_type: MemType) -> Self {
        Self { attrs: self.attrs.with_mem_type(mem_type), ..self }
    }

    /// Sets the size in bytes of the largest leaf that the backing allows, such as the size of the
    /// host's huge pages: a power of two.
    #[must_use]
    pub fn with_max_leaf(self, bytes: u64) -> Self {
        Self { max_leaf: Some(bytes), ..self }
    }

    /// Sets where parts of the slot may begin and end: blocks that are plugged, private pages.
    #[must_use]
    pub fn with_split_granularity(self, granularity: SplitGranularity) -> Self {
        Self { attrs: self.attrs.with_split_granularity(granularity), ..self }
    }

    /// Moves the request elsewhere: for an alias, or for another guest that shares the memory.
    #[must_use]
    pub fn at(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(self, kind: RegionKind) -> Self {
        Self { kind, ..self }
    }

    /// Returns the guest-physical address of the first byte.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Returns `true` if the length is zero, which is refused.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Checks what can be checked without the guest, and returns the range and the attributes.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`] (also the backing's offset, and a leaf that is
    /// no power of two or smaller than a page), [`Error::OutOfRange`] (also if the backing's
    /// addresses wrap), [`Error::BackingDiffers`] if the backing does not suit the kind.
    pub(super) fn check(&self, page_size: PageSize) -> Result<(VmRange, Attrs), Error> {
        let range = VmRange::new(self.start, self.len, page_size)?;
        let suits = match self.kind {
            RegionKind::Mmio => matches!(self.backing, HostBacking::Device { .. }),
            RegionKind::Reserved => matches!(self.backing, HostBacking::None),
            RegionKind::Passthrough => matches!(self.backing, HostBacking::Host { .. }),
            RegionKind::Ram | RegionKind::Rom | RegionKind::Shared => {
                !matches!(self.backing, HostBacking::Device { .. } | HostBacking::None)
            }
        };
        if !suits {
            return Err(Error::BackingDiffers);
        }
        if let Some(offset) = self.backing.offset() {
            if !page_size.is_aligned(offset) {
                return Err(Error::Unaligned);
            }
            if offset.checked_add(self.len - 1).is_none() {
                return Err(Error::OutOfRange);
            }
        }
        if self.max_leaf.is_some_and(|leaf| !leaf.is_power_of_two() || leaf < page_size.bytes()) {
            return Err(Error::Unaligned);
        }
        let Self { kind, backing, state, prot, max_leaf, attrs, .. } = *self;
        Ok((range, encode(attrs, kind, backing, state, prot, max_leaf)))
    }
}

/// A memory slot, borrowed from its guest.
///
/// ```
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// let ram = guest.add_slot(ram, &mut NoHooks)?;
/// // Another guest is to see the same memory at another place.
/// let shared = guest.inspect(|guest| guest.slot(ram).map(|slot| slot.request()));
/// let shared = shared.expect("the slot is there").at(0x10_0000);
/// # let other = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let other = AddrSpace::new(other);
/// other.add_slot(shared, &mut NoHooks)?;
/// assert_eq!(other.translate(0x10_1000).and_then(|found| found.host()), Some(0x6000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Slot<'a, D> {
    range: VmRange,
    entry: &'a SlotEntry<D>,
}

impl<D> Clone for Slot<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Slot<'_, D> {}

impl<'a, D> Slot<'a, D> {
    /// Returns the slot that begins with this region, if one does.
    pub(super) fn of_first(region: &Vma<'a, GuestData<D>>) -> Option<Self> {
        let entry = region.data().slot()?;
        let start = region.entry().range().start;
        let pages = PageRange::new(start, start.saturating_add(entry.page_count));
        Some(Self { range: VmRange::from_pages(pages, region.page_size()), entry })
    }

    pub(super) fn entry(&self) -> Entry {
        self.entry.in_books()
    }

    /// Returns the number.
    pub fn number(&self) -> SlotNumber {
        slot_of(self.entry.attrs)
    }

    /// Returns the range of guest-physical addresses.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the slot as a region: as it was asked for, with what has been changed for all of it
    /// since, and without what has been changed for parts.
    pub fn region(&self) -> Region {
        Region::new(self.range, self.entry.attrs)
    }

    /// Returns the hypervisor's data.
    pub fn data(&self) -> &'a D {
        &self.entry.data
    }

    /// Returns a request for the same memory, for an alias or for another guest: kind, backing,
    /// protection, and how it may be split and mapped. Its state is none, its number the lowest.
    pub fn request(&self) -> SlotRequest {
        let region = self.region();
        let len = self.range.len().unwrap_or(u64::MAX);
        let mut request =
            SlotRequest::new(self.range.start(), len, region.kind(), region.backing());
        request.prot = region.wanted_prot();
        request.max_leaf = region.max_leaf();
        request
            .with_mem_type(region.mem_type())
            .with_split_granularity(self.entry.attrs.split_granularity())
    }
}

impl<D> fmt::Debug for Slot<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.region(), f)
    }
}

/// A slot that has been removed.
///
/// ```
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode<Vec<u8>>, 32>::new();
/// # let guest = Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// // The data in each slot is its memory, as in a test of a hypervisor.
/// let memory = vec![0; 0x8000];
/// let host = HostBacking::Host { addr: memory.as_ptr() as u64 & !0xfff };
/// let ram = guest.add_slot(SlotRequest::ram(0, 0x8000, host).with_data(memory), &mut NoHooks)?;
/// // When this returns, no processor sees the memory any more, and it may go.
/// let removed = guest.remove_slot(ram, &mut NoHooks)?;
/// assert_eq!((removed.region().slot(), removed.into_data().len()), (ram, 0x8000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RemovedSlot<D> {
    region: Region,
    data: D,
}

impl<D> RemovedSlot<D> {
    pub(super) fn new(range: VmRange, SlotEntry { attrs, data, .. }: SlotEntry<D>) -> Self {
        Self { region: Region::new(range, attrs), data }
    }

    /// Returns what it was: range, kind, backing, number.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Returns the hypervisor's data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Takes the hypervisor's data out.
    pub fn into_data(self) -> D {
        self.data
    }
}

impl<D> fmt::Debug for RemovedSlot<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemovedSlot").field(&self.region).finish()
    }
}
