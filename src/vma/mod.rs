//! A VMA: a range of pages with the same attributes and backing, and the kernel's data.

mod attrs;
mod node;

use core::fmt;

pub use self::attrs::{Attrs, Backing};
#[cfg(feature = "linux")]
pub(crate) use self::node::GuardGaps;
pub use self::node::{VmaContext, VmaNode, VmaWords};
use crate::flags::{Prot, VmaFlags};
pub use crate::node::data::{Plain, VmaData};
use crate::range::{PageSize, VmRange};
use crate::tree::EntryRef;

/// A VMA, borrowed from its map. Cheap to copy.
///
/// ```
/// # use kvma::{Attrs, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot, VmMap, VmaNode};
/// # let nodes = FixedPool::<VmaNode, 16>::new();
/// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let request = MapRequest::new(Placement::Fixed(0x4000), 0x2000, Attrs::new(Prot::RX));
/// # map.map(request, &mut NoHooks)?;
/// let vma = map.find(0x5123).expect("something is mapped there");
/// assert_eq!((vma.start(), vma.last()), (0x4000, 0x5fff));
/// assert_eq!(vma.attrs().prot(), Prot::RX);
/// # Ok::<(), kvma::Error>(())
/// ```
pub struct Vma<'a, V: VmaData> {
    entry: EntryRef<'a, VmaNode<V>>,
    data: &'a V,
    page_size: PageSize,
}

impl<V: VmaData> Clone for Vma<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: VmaData> Copy for Vma<'_, V> {}

impl<'a, V: VmaData> Vma<'a, V> {
    /// Returns the VMA of an entry, or `None` for a claim.
    #[inline]
    pub(crate) fn new(entry: EntryRef<'a, VmaNode<V>>, page_size: PageSize) -> Option<Self> {
        Some(Self { entry, data: entry.data()?, page_size })
    }

    pub(crate) fn entry(&self) -> EntryRef<'a, VmaNode<V>> {
        self.entry
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// Returns the range, in bytes.
    pub fn range(&self) -> VmRange {
        VmRange::from_pages(self.entry.range(), self.page_size)
    }

    /// Returns the first byte.
    pub fn start(&self) -> u64 {
        self.page_size.addr(self.entry.range().start)
    }

    /// Returns the last byte.
    pub fn last(&self) -> u64 {
        self.range().last()
    }

    /// Returns the length in bytes; `None` where that is 2^64.
    #[allow(clippy::len_without_is_empty)] // A VMA has at least one page.
    pub fn len(&self) -> Option<u64> {
        self.range().len()
    }

    /// Returns the number of pages.
    pub fn page_count(&self) -> u64 {
        self.entry.range().len()
    }

    /// Returns the attributes; the backing's offset is that of the first page.
    pub fn attrs(&self) -> Attrs {
        self.entry.attrs()
    }

    /// Returns the attributes of the part that begins with the page of `addr`, which lies in the
    /// VMA: the backing's offset is that of the page.
    pub fn attrs_at(&self, addr: u64) -> Attrs {
        self.attrs().advance(self.page_size.round_down(addr).saturating_sub(self.start()))
    }

    /// Returns the protection.
    pub fn prot(&self) -> Prot {
        self.attrs().prot()
    }

    /// Returns the user data.
    pub fn data(&self) -> &'a V {
        self.data
    }

    /// Returns the number of free bytes right before the VMA, down to the one below or to the start
    /// of the space.
    pub fn gap_before(&self) -> u64 {
        self.page_size.addr(self.entry.gap_before())
    }
}

impl<V: VmaData> fmt::Debug for Vma<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vma").field("range", &self.range()).field("attrs", &self.attrs()).finish()
    }
}

impl<V: VmaData> fmt::Display for Vma<'_, V> {
    /// Writes a line as `/proc/PID/maps` has it, without the columns that only a kernel knows:
    /// range, permissions, offset, and the object's number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (range, attrs) = (self.range(), self.attrs());
        write_range(f, range)?;
        let shared = if attrs.flags().contains(VmaFlags::SHARED) { 's' } else { 'p' };
        write!(f, " {}{shared}", attrs.prot())?;
        match attrs.backing() {
            Backing::Anonymous => write!(f, " 00000000"),
            Backing::Object { id, offset } => write!(f, " {offset:08x} {id}"),
        }
    }
}

/// Writes `start-end` as `/proc/PID/maps` does.
pub(crate) fn write_range(f: &mut fmt::Formatter<'_>, range: VmRange) -> fmt::Result {
    match range.end() {
        Some(end) => write!(f, "{:08x}-{end:08x}", range.start()),
        None => write!(f, "{:08x}-1{:016x}", range.start(), 0),
    }
}
