//! A mapping described option by option, as mmap-rs does it.

use bitflags::bitflags;

use super::write_xor_exec;
use crate::error::Error;
use crate::flags::{MemType, Prot, SplitGranularity, VmaFlags};
use crate::placement::{MapRequest, Placement, Search};
use crate::range::PageSize;
use crate::split_merge::Merge;
use crate::vma::{Attrs, Backing};

bitflags! {
    /// Flags that [`MapOptions`] keeps with a mapping and that no page fault reads.
    ///
    /// They lie in the low bits of [`Attrs::user_bits`]; the other bits stay the kernel's. All of
    /// them take part in merging. Hooks find them with [`Attrs::map_flags`].
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use kvma::compat::{MapFlags, MapOptions};
    /// use kvma::{Error, Event, Heap, Hooks, PageSize, Prot, VmMap};
    ///
    /// /// Fills the page tables of what is to be populated, and leaves the rest to page faults.
    /// #[derive(Default)]
    /// struct PageTable(Vec<u64>);
    ///
    /// impl Hooks<()> for PageTable {
    ///     type Error = Error;
    ///
    ///     fn on_map(&mut self, piece: &kvma::Piece<'_, ()>) {
    ///         if piece.attrs().map_flags().contains(MapFlags::POPULATE) {
    ///             self.0.extend(piece.range().pages());
    ///         }
    ///     }
    /// }
    ///
    /// let mut map = VmMap::<(), _>::new(0x10000..=0xff_ffff, PageSize::SIZE_4K, Heap)?;
    /// let mut table = PageTable::default();
    /// let now = MapOptions::new(0x2000).prot(Prot::RW).populate();
    /// map.map(now.request(PageSize::SIZE_4K)?, &mut table)?;
    /// map.map(MapOptions::new(0x2000).prot(Prot::RW).request(PageSize::SIZE_4K)?, &mut table)?;
    /// assert_eq!(table.0, [0x10000, 0x11000]);
    /// # }
    /// # Ok::<(), kvma::Error>(())
    /// ```
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MapFlags: u64 {
        /// Only the addresses are taken, no memory: see [`VmMap::commit`](crate::VmMap::commit).
        const UNCOMMITTED = 1 << 0;
        /// A stack (`MAP_STACK`).
        const STACK = 1 << 1;
        /// Left out of core dumps (`MADV_DONTDUMP`).
        const NO_CORE_DUMP = 1 << 2;
        /// Will be read in order (`MADV_SEQUENTIAL`).
        const SEQUENTIAL = 1 << 3;
        /// Will be read at random (`MADV_RANDOM`).
        const RANDOM = 1 << 4;
        /// May be writable now and executable later, or both at once.
        const JIT = 1 << 5;
        /// Page tables are to be filled when memory is mapped or committed (`MAP_POPULATE`).
        const POPULATE = 1 << 6;
        /// No swap space is set aside (`MAP_NORESERVE`).
        const NO_RESERVE = 1 << 7;
        /// Huge pages are welcome where they fit (`MADV_HUGEPAGE`). Splits are not restricted.
        const TRANSPARENT_HUGE = 1 << 8;
    }
}

impl Attrs {
    /// Returns the flags that [`MapOptions`] has set.
    pub const fn map_flags(&self) -> MapFlags {
        MapFlags::from_bits_truncate(self.user_bits())
    }

    /// Returns the attributes with these flags instead. The other user bits stay.
    #[must_use]
    pub const fn with_map_flags(self, flags: MapFlags) -> Self {
        self.with_user_bits(self.user_bits() & !MapFlags::all().bits() | flags.bits())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Anywhere,
    Fixed(u64),
    FixedNoReplace(u64),
}

/// Describes a mapping; [`request`](Self::request) makes a [`MapRequest`] of it for
/// [`VmMap::map`](crate::VmMap::map) or [`Mappings::map`](super::Mappings::map).
///
/// Unless told otherwise, the mapping is private anonymous memory without access, at the lowest
/// free address. Addresses, lengths and offsets are in bytes.
///
/// ```
/// use kvma::compat::MapOptions;
/// use kvma::{FixedPool, NoHooks, PageSize, Prot, SplitGranularity, VmMap, VmaNode};
///
/// static POOL: FixedPool<VmaNode, 8> = FixedPool::new();
/// let mut map = VmMap::new(0x1000..=0xffff_ffff, PageSize::SIZE_4K, &POOL)?;
/// let huge = SplitGranularity::Size2M;
/// let huge = MapOptions::new(4 << 20).prot(Prot::RW).huge_pages(huge).locked();
/// let at = map.map(huge.request(PageSize::SIZE_4K)?, &mut NoHooks)?;
/// assert_eq!(at, 2 << 20);
/// assert!(map.unmap(at, 4096, &mut NoHooks).is_err()); // not inside a huge page
/// # Ok::<(), kvma::Error>(())
/// ```
#[must_use = "nothing is mapped by options alone"]
#[derive(Clone, Copy, Debug)]
pub struct MapOptions {
    len: u64,
    at: At,
    search: Search,
    hint: Option<u64>,
    granularity: u64,
    attrs: Attrs,
    merge: Merge,
}

impl MapOptions {
    /// Describes a mapping of `len` bytes.
    pub const fn new(len: u64) -> Self {
        Self {
            len,
            at: At::Anywhere,
            search: Search::new(),
            hint: None,
            granularity: 1,
            attrs: Attrs::new(Prot::NONE),
            merge: Merge::Both,
        }
    }

    /// Puts it at `addr`, in place of what is mapped there (`MAP_FIXED`).
    pub const fn fixed(self, addr: u64) -> Self {
        Self { at: At::Fixed(addr), ..self }
    }

    /// Puts it at `addr`, if that is free (`MAP_FIXED_NOREPLACE`).
    pub const fn fixed_no_replace(self, addr: u64) -> Self {
        Self { at: At::FixedNoReplace(addr), ..self }
    }

    /// Puts it at `addr`, rounded down to a page as mmap(2) does, if that is free and aligned as
    /// the mapping must be; else anywhere.
    pub const fn hint(self, addr: u64) -> Self {
        Self { hint: Some(addr), ..self }
    }

    /// Says where to look for a free range: direction, window, guard.
    ///
    /// An alignment given there has no effect: the mapping is aligned to the page, the huge page or
    /// the granularity, whichever is largest.
    pub const fn search(self, search: Search) -> Self {
        Self { search, ..self }
    }

    /// Puts it at a multiple of `bytes`, a power of two: the allocation granularity of systems
    /// where that is larger than a page, such as Windows' 64 KiB.
    pub const fn granularity(self, bytes: u64) -> Self {
        Self { granularity: bytes, ..self }
    }

    /// Allows user code this access.
    pub const fn prot(self, prot: Prot) -> Self {
        Self { attrs: self.attrs.with_prot(prot), ..self }
    }

    /// Maps the kernel's object `id` from the byte `offset` on.
    pub const fn object(self, id: u64, offset: u64) -> Self {
        Self { attrs: self.attrs.with_backing(Backing::Object { id, offset }), ..self }
    }

    /// Shows stores to everybody who maps the same object.
    pub const fn shared(self) -> Self {
        Self { attrs: self.attrs.shared(), ..self }
    }

    /// Keeps stores to this mapping. The default.
    pub const fn copy_on_write(self) -> Self {
        Self { attrs: self.attrs.without(VmaFlags::SHARED), ..self }
    }

    /// Keeps its pages in memory.
    pub const fn locked(self) -> Self {
        Self { attrs: self.attrs.locked(), ..self }
    }

    /// Lets a fault below extend the VMA downwards.
    pub const fn grows_down(self) -> Self {
        Self { attrs: self.attrs.grows_down(), ..self }
    }

    /// Says how the processor may cache it. VMAs of different types never merge.
    pub const fn mem_type(self, mem: MemType) -> Self {
        Self { attrs: self.attrs.with_mem_type(mem), ..self }
    }

    /// Makes it of huge pages: aligned to them, and never split inside one.
    pub const fn huge_pages(self, size: SplitGranularity) -> Self {
        Self { attrs: self.attrs.with_split_granularity(size), ..self }
    }

    /// Welcomes huge pages where they fit.
    pub const fn transparent_huge_pages(self) -> Self {
        self.map_flags(MapFlags::TRANSPARENT_HUGE, MapFlags::empty())
    }

    /// Takes the addresses and no memory. [`VmMap::commit`](crate::VmMap::commit) says later which
    /// parts are to be used, and with which protection; [`prot`](Self::prot) has no effect.
    pub const fn reserve(self) -> Self {
        self.map_flags(MapFlags::UNCOMMITTED, MapFlags::empty())
    }

    /// Sets no swap space aside.
    pub const fn no_reserve(self) -> Self {
        self.map_flags(MapFlags::NO_RESERVE, MapFlags::empty())
    }

    /// Fills page tables at once.
    pub const fn populate(self) -> Self {
        self.map_flags(MapFlags::POPULATE, MapFlags::empty())
    }

    /// Marks it as a stack.
    pub const fn stack(self) -> Self {
        self.map_flags(MapFlags::STACK, MapFlags::empty())
    }

    /// Leaves it out of core dumps.
    pub const fn no_core_dump(self) -> Self {
        self.map_flags(MapFlags::NO_CORE_DUMP, MapFlags::empty())
    }

    /// Announces that it will be read in order. Takes back [`random`](Self::random).
    pub const fn sequential(self) -> Self {
        self.map_flags(MapFlags::SEQUENTIAL, MapFlags::RANDOM)
    }

    /// Announces that it will be read at random. Takes back [`sequential`](Self::sequential).
    pub const fn random(self) -> Self {
        self.map_flags(MapFlags::RANDOM, MapFlags::SEQUENTIAL)
    }

    /// Lets it be writable and executable, at once or in turn: see
    /// [`WriteXorExec`](super::WriteXorExec).
    pub const fn jit(self) -> Self {
        self.map_flags(MapFlags::JIT, MapFlags::empty())
    }

    /// Merges it with these neighbours only.
    pub const fn merge(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }

    /// Adds `set` and removes `clear`.
    const fn map_flags(self, set: MapFlags, clear: MapFlags) -> Self {
        let flags = self.attrs.map_flags().union(set).difference(clear);
        Self { attrs: self.attrs.with_map_flags(flags), ..self }
    }

    /// Returns the unit that address, length and offset must be multiples of, in bytes: the page or
    /// the huge page.
    fn unit(&self, page_size: PageSize) -> u64 {
        self.attrs.split_granularity().bytes().unwrap_or(1).max(page_size.bytes())
    }

    /// Returns the request for this mapping, in a space with this page size.
    ///
    /// # Errors
    ///
    /// - [`Error::Unaligned`]: length, offset or fixed address is not a multiple of the page (the
    ///   huge page, the granularity), or the granularity is not a power of two.
    /// - [`Error::ZeroLength`].
    /// - [`Error::OutOfRange`]: the object would end beyond its 64-bit offsets.
    /// - [`Error::WriteXorExec`]: writable and executable at once, without [`jit`](Self::jit).
    pub fn request(&self, page_size: PageSize) -> Result<MapRequest, Error> {
        let unit = self.unit(page_size);
        let align = unit.max(self.granularity);
        if !self.granularity.is_power_of_two() || self.len & (unit - 1) != 0 {
            return Err(Error::Unaligned);
        }
        if self.len == 0 {
            return Err(Error::ZeroLength);
        }
        let attrs = self.checked_attrs(unit)?;
        let placement = match self.at {
            At::Fixed(addr) | At::FixedNoReplace(addr) if addr & (align - 1) != 0 => {
                return Err(Error::Unaligned);
            }
            At::Fixed(addr) => Placement::Fixed(addr),
            At::FixedNoReplace(addr) => Placement::FixedNoReplace(addr),
            At::Anywhere => {
                let search = self.search.align(align).align_offset(0);
                let hint = self.hint.map(|hint| page_size.round_down(hint));
                Placement::Any(match hint.filter(|hint| hint & (align - 1) == 0) {
                    Some(hint) => search.hint(hint),
                    None => search,
                })
            }
        };
        Ok(MapRequest::new(placement, self.len, attrs).with_merge(self.merge))
    }

    fn checked_attrs(&self, unit: u64) -> Result<Attrs, Error> {
        let is_reserved = self.attrs.map_flags().contains(MapFlags::UNCOMMITTED);
        let attrs = if is_reserved { self.attrs.with_prot(Prot::NONE) } else { self.attrs };
        if !write_xor_exec::allows(attrs.map_flags(), attrs.prot()) {
            return Err(Error::WriteXorExec);
        }
        if let Backing::Object { offset, .. } = attrs.backing() {
            if offset & (unit - 1) != 0 {
                return Err(Error::Unaligned);
            }
            if offset.checked_add(self.len).is_none() {
                return Err(Error::OutOfRange);
            }
        }
        Ok(attrs)
    }
}
