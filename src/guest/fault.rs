//! Answers to faults on guest-physical memory.

use super::Guest;
use super::backing::HostBacking;
use super::data::GuestAlloc;
use super::region::{Region, RegionKind, RegionState};
use super::slot::SlotNumber;
use crate::flags::{MemType, Prot};

/// An access that has faulted.
///
/// ```
/// use kvma::Prot;
/// use kvma::guest::Access;
///
/// // A store by a confidential guest, to a page that it takes for its own.
/// let access = Access::new(Prot::WRITE).private();
/// assert_eq!(access, Access::WRITE.private());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    prot: Prot,
    private: Option<bool>,
}

impl Access {
    /// A load.
    pub const READ: Self = Self::new(Prot::READ);
    /// A store.
    pub const WRITE: Self = Self::new(Prot::WRITE);
    /// An instruction fetch.
    pub const FETCH: Self = Self::new(Prot::EXEC);

    /// Returns an access of this sort, of a guest that knows no private pages.
    pub const fn new(prot: Prot) -> Self {
        Self { prot, private: None }
    }

    /// Makes it one to a page that the guest takes for private.
    #[must_use]
    pub const fn private(self) -> Self {
        Self { private: Some(true), ..self }
    }

    /// Makes it one to a page that the guest takes for shared with the hypervisor.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self { private: Some(false), ..self }
    }
}

/// The sizes of leaves that a page table can hold: a set of powers of two.
///
/// ```
/// use kvma::guest::LeafSizes;
///
/// // RISC-V with Sv57, and AArch64's contiguous ranges.
/// let sizes = LeafSizes::SIZE_4K_2M_1G.with(512 << 30).with(64 << 10);
/// assert_eq!(sizes.descending().map(|bytes| bytes >> 10).collect::<Vec<_>>(), [
///     512 << 20,
///     1 << 20,
///     2048,
///     64,
///     4,
/// ]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeafSizes(u64);

impl LeafSizes {
    /// 4 KiB: the leaf of a page alone.
    pub const SIZE_4K: Self = Self(1 << 12);
    /// 4 KiB and 2 MiB.
    pub const SIZE_4K_2M: Self = Self(1 << 12 | 1 << 21);
    /// 4 KiB, 2 MiB, and 1 GiB: x86-64, AArch64 with pages of 4 KiB, RISC-V.
    pub const SIZE_4K_2M_1G: Self = Self(1 << 12 | 1 << 21 | 1 << 30);

    /// Returns the sizes whose sum is `bytes`, as processors tell them: 4 KiB and 2 MiB are
    /// `0x20_1000`.
    pub const fn from_bits(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Adds a size in bytes. One that is no power of two adds nothing.
    #[must_use]
    pub const fn with(self, bytes: u64) -> Self {
        if bytes.is_power_of_two() { Self(self.0 | bytes) } else { self }
    }

    /// Iterates over the sizes in bytes, the largest first.
    pub fn descending(self) -> impl Iterator<Item = u64> + Clone {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let largest = 1 << rest.checked_ilog2()?;
            rest &= !largest;
            Some(largest)
        })
    }

    /// Returns the sizes of at most `bytes` bytes.
    pub(super) const fn up_to(self, bytes: u64) -> Self {
        match bytes.checked_ilog2() {
            Some(shift) => Self(self.0 & (u64::MAX >> (63 - shift))),
            None => Self(0),
        }
    }
}

/// A page-table entry to be made: so much from here, at that place of the host's.
///
/// ```
/// use kvma::guest::{Access, FaultAnswer, LeafSizes};
/// # use std::collections::BTreeMap;
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// # let ram = SlotRequest::ram(0, 0x40_0000, HostBacking::Host { addr: 0x20_0000 });
/// # guest.add_slot(ram, &mut NoHooks)?;
/// # let mut page_table = BTreeMap::new();
/// // What a handler writes, once it holds the page-table lock.
/// let answer = guest.fault(0x20_1234, Access::READ, LeafSizes::SIZE_4K_2M);
/// if let FaultAnswer::Map { leaf, token } = answer
///     && guest.still_valid_for(&token, leaf.gpa(), leaf.size())
/// {
///     page_table.insert(leaf.gpa(), (leaf.host(), leaf.size(), leaf.prot(), leaf.mem_type()));
/// }
/// assert_eq!(page_table[&0x20_0000].1, 2 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    gpa: u64,
    size: u64,
    backing: HostBacking,
    region: Region,
    prot: Prot,
}

impl Leaf {
    /// Returns the guest-physical address, a multiple of the size.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns what backs the leaf's first byte.
    pub fn backing(&self) -> HostBacking {
        self.backing
    }

    /// Returns the host's address of the first byte, where the backing has one.
    pub fn host(&self) -> Option<u64> {
        match self.backing {
            HostBacking::Host { addr } => Some(addr),
            _ => None,
        }
    }

    /// Returns the accesses that the entry is to allow. Where writes are noted, a store has to
    /// fault before it is allowed.
    pub fn prot(&self) -> Prot {
        self.prot
    }

    /// Returns how the processor may cache the memory.
    pub fn mem_type(&self) -> MemType {
        self.region.mem_type()
    }

    /// Returns the slot.
    pub fn slot(&self) -> SlotNumber {
        self.region.slot()
    }

    /// Returns the region that the leaf lies in.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Returns `true` if the page must be [marked](super::DirtyBitmap::mark) before the entry is
    /// written: the guest may write from then on.
    pub fn is_dirtying(&self) -> bool {
        self.region.state().contains(RegionState::LOG_DIRTY) && self.prot.contains(Prot::WRITE)
    }
}

/// Why an access is an error of the guest's.
///
/// ```
/// use kvma::guest::{Access, FaultAnswer, LeafSizes, Reason};
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// /// What becomes of the guest.
/// fn outcome(reason: Reason) -> &'static str {
///     match reason {
///         Reason::ReadOnly(_) => "ignore the store, as a bus does",
///         Reason::NothingThere | Reason::Reserved(_) => "read as ones, or inject an exception",
///         _ => "stop the guest",
///     }
/// }
///
/// let answer = guest.fault(0x1000, Access::WRITE, LeafSizes::SIZE_4K);
/// let FaultAnswer::Inject(reason) = answer else { panic!("there is no slot") };
/// assert!(outcome(reason).contains("inject"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No slot is there.
    NothingThere,
    /// The slot is a [reserved](RegionKind::Reserved) one.
    Reserved(SlotNumber),
    /// The block is not plugged in.
    Unplugged(SlotNumber),
    /// A store to memory that can only be read: ROM, or a read-only slot. The hypervisor may take
    /// it for a command to a flash chip.
    ReadOnly(SlotNumber),
    /// The slot does not allow accesses of this sort.
    Denied(SlotNumber),
}

/// The answer to a fault.
///
/// ```
/// use kvma::guest::{Access, FaultAnswer, Guest, GuestNode, HostBacking, LeafSizes, Reason};
/// use kvma::guest::SlotRequest;
/// use kvma::{FixedPool, NoHooks, PageSize};
///
/// let nodes = FixedPool::<GuestNode, 16>::new();
/// let mut guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// let image = HostBacking::Host { addr: 0x7_0000 };
/// guest.add_slot(SlotRequest::rom(0xf_0000, 0x1_0000, image), &mut NoHooks).unwrap();
///
/// match guest.fault(0xf_1234, Access::READ, LeafSizes::SIZE_4K) {
///     FaultAnswer::Map { leaf, .. } => {
///         assert_eq!((leaf.gpa(), leaf.host()), (0xf_1000, Some(0x7_1000)));
///     }
///     other => panic!("{other:?}"),
/// }
/// let store = guest.fault(0xf_1234, Access::WRITE, LeafSizes::SIZE_4K);
/// assert!(matches!(store, FaultAnswer::Inject(Reason::ReadOnly(_))));
/// # Ok::<(), kvma::Error>(())
/// ```
///
/// `T` is the [`Token`](crate::Token) of a lookup without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAnswer<T = ()> {
    /// Make a page-table entry: prepare what is behind the leaf, take the page-table lock, and if
    /// the token is [`still_valid_for`](crate::AddrSpace::still_valid_for) the leaf, write the
    /// entry.
    Map {
        /// The entry.
        leaf: Leaf,
        /// By which one knows that nothing has changed meanwhile.
        token: T,
    },
    /// Emulate the access to a device.
    Emulate {
        /// The device's key.
        device: u64,
        /// The offset of the access in the device's registers, in bytes.
        offset: u64,
        /// The slot.
        slot: SlotNumber,
    },
    /// Fetch the page's contents from where the guest came from, then say that they have
    /// [arrived](Guest::arrived).
    Fetch {
        /// The page's guest-physical address.
        gpa: u64,
        /// The backing that is to hold the contents.
        backing: HostBacking,
        /// The slot.
        slot: SlotNumber,
    },
    /// The guest takes the page for private and it is shared, or the other way round: ask whoever
    /// decides, then [`make_private`](Guest::make_private) or
    /// [`make_shared`](Guest::make_shared).
    Convert {
        /// The page's guest-physical address.
        gpa: u64,
        /// The slot.
        slot: SlotNumber,
    },
    /// Tell the guest that it has made an error.
    Inject(Reason),
    /// Let the guest make the access again: a flush is pending at the address.
    Retry,
}

impl FaultAnswer {
    /// Returns the answer for an access at `gpa`, given the region there.
    #[inline]
    pub(super) fn of(region: Option<Region>, gpa: u64, access: Access, sizes: LeafSizes) -> Self {
        let Some(region) = region else { return Self::Inject(Reason::NothingThere) };
        let slot = region.slot();
        match region.kind() {
            RegionKind::Mmio => {
                let HostBacking::Device { device, offset } = region.backing_at(gpa) else {
                    return Self::Inject(Reason::Reserved(slot));
                };
                return Self::Emulate { device, offset, slot };
            }
            RegionKind::Reserved => return Self::Inject(Reason::Reserved(slot)),
            _ => {}
        }
        let state = region.state();
        let page_size = region.range().page_size();
        if state.contains(RegionState::UNPLUGGED) {
            return Self::Inject(Reason::Unplugged(slot));
        }
        if access.private.is_some_and(|private| private != state.contains(RegionState::PRIVATE)) {
            return Self::Convert { gpa: page_size.round_down(gpa), slot };
        }
        if state.contains(RegionState::AWAITED) {
            let gpa = page_size.round_down(gpa);
            return Self::Fetch { gpa, backing: region.backing_at(gpa), slot };
        }
        let missing = access.prot.difference(region.prot());
        if missing == Prot::WRITE && region.wanted_prot().contains(Prot::WRITE) {
            return Self::Inject(Reason::ReadOnly(slot));
        }
        if !missing.is_empty() {
            return Self::Inject(Reason::Denied(slot));
        }
        Self::Map { leaf: largest_leaf(region, gpa, access, sizes), token: () }
    }

    /// Returns the answer with a token in the place of none.
    pub(super) fn with_token<T>(self, token: T) -> FaultAnswer<T> {
        match self {
            Self::Map { leaf, token: () } => FaultAnswer::Map { leaf, token },
            Self::Emulate { device, offset, slot } => FaultAnswer::Emulate { device, offset, slot },
            Self::Fetch { gpa, backing, slot } => FaultAnswer::Fetch { gpa, backing, slot },
            Self::Convert { gpa, slot } => FaultAnswer::Convert { gpa, slot },
            Self::Inject(reason) => FaultAnswer::Inject(reason),
            Self::Retry => FaultAnswer::Retry,
        }
    }

    /// Returns the answer where no lookup has made a token.
    pub(super) fn without_token<T>(self) -> FaultAnswer<T> {
        match self {
            Self::Map { .. } | Self::Retry => FaultAnswer::Retry,
            Self::Emulate { device, offset, slot } => FaultAnswer::Emulate { device, offset, slot },
            Self::Fetch { gpa, backing, slot } => FaultAnswer::Fetch { gpa, backing, slot },
            Self::Convert { gpa, slot } => FaultAnswer::Convert { gpa, slot },
            Self::Inject(reason) => FaultAnswer::Inject(reason),
        }
    }
}

/// Returns the sizes that a region allows at all, the page itself included.
pub(super) fn sizes_for(region: &Region, sizes: LeafSizes) -> LeafSizes {
    let page_size = region.range().page_size().bytes();
    let sizes = sizes.with(page_size);
    let limit = if region.state().contains(RegionState::LOG_DIRTY) {
        page_size
    } else {
        region.max_leaf().unwrap_or(u64::MAX)
    };
    sizes.up_to(limit)
}

/// Returns how far the backing lies from a multiple of `size` where the guest's address is one.
/// Frames are taken as they are needed, and are aligned like the guest's addresses.
pub(super) const fn is_co_aligned(region: &Region, size: u64) -> bool {
    match region.backing() {
        HostBacking::Frames { .. } | HostBacking::None => true,
        HostBacking::Host { addr: offset }
        | HostBacking::File { offset, .. }
        | HostBacking::Device { offset, .. } => {
            offset.wrapping_sub(region.range().start()) & (size - 1) == 0
        }
    }
}

fn largest_leaf(region: Region, gpa: u64, access: Access, sizes: LeafSizes) -> Leaf {
    let range = region.range();
    let page_size = range.page_size();
    let fits = |size: u64| {
        let start = gpa & !(size - 1);
        start >= range.start() && start + (size - 1) <= range.last()
    };
    let mut sizes = sizes_for(&region, sizes).descending();
    let size =
        sizes.find(|&size| size >= page_size.bytes() && fits(size) && is_co_aligned(&region, size));
    let size = size.unwrap_or(page_size.bytes());
    let gpa = gpa & !(size - 1);
    let mut prot = region.prot();
    if region.state().contains(RegionState::LOG_DIRTY) && !access.prot.contains(Prot::WRITE) {
        prot = prot.difference(Prot::WRITE);
    }
    Leaf { gpa, size, backing: region.backing_at(gpa), region, prot }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Says what to do about a fault at `gpa`, for whoever has the guest to himself.
    /// [`AddrSpace`](crate::AddrSpace) has the same without the lock. O(log n).
    ///
    /// The largest of `sizes` is chosen that lies in one region, that both sides' alignment allows,
    /// and that the slot's [`with_max_leaf`](super::SlotRequest::with_max_leaf) allows; where
    /// writes are noted, a page.
    pub fn fault(&self, gpa: u64, access: Access, sizes: LeafSizes) -> FaultAnswer {
        FaultAnswer::of(self.region(gpa), gpa, access, sizes)
    }
}
