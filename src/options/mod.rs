//! A mapping described option by option, as mmap-rs does it, and the calls that go with that
//! description: committing what was reserved, locking, adopting what is already mapped.

mod adopt;
mod commit;
mod flags;
mod write_xor_exec;

pub use flags::MapFlags;
pub use write_xor_exec::WriteXorExec;

use crate::error::{Errno, Error};
use crate::flags::{MemType, Prot, SplitGranularity, VmaFlags};
use crate::placement::Search;
use crate::range::PageSize;
use crate::ranges::Merge;
use crate::vm_map::{MapRequest, Placement};
use crate::vma::{Attrs, Backing};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Anywhere,
    Fixed(u64),
    FixedNoReplace(u64),
}

/// Describes a mapping; [`request`](Self::request) makes a [`MapRequest`] of it for
/// [`VmMap::map`](crate::VmMap::map) or [`Mappings::map`](crate::Mappings::map).
///
/// Unless told otherwise: private anonymous memory without access, at the lowest free address.
/// Addresses, lengths and offsets are in bytes.
///
/// ```
/// # use kvma::{SplitGranularity, MapOptions, NoHooks, PageSize, Prot, VmMap, FixedPool, VmaNode};
/// # static POOL: FixedPool<VmaNode, 8> = FixedPool::new();
/// let mut map = VmMap::new(0x1000, 0x10_0000, PageSize::SIZE_4K, &POOL)?;
/// let huge = MapOptions::new(4 << 20).prot(Prot::RW).huge_pages(SplitGranularity::Size2M).locked();
/// let mut hooks = NoHooks;
/// let mut update = map.update(&mut hooks);
/// let at = map.map(huge.request(PageSize::SIZE_4K)?, &mut update)?;
/// assert_eq!(at, 2 << 20);
/// assert!(map.unmap(at, 4096, &mut update).is_err()); // not inside a huge page
/// # Ok::<(), kvma::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MapOptions {
    len: u64,
    at: At,
    search: Search,
    hint: Option<u64>,
    granularity: u64,
    prot: Prot,
    object: Option<(u64, u64)>,
    flags: VmaFlags,
    map_flags: MapFlags,
    merge: Merge,
}

impl MapOptions {
    /// `len` bytes.
    pub const fn new(len: u64) -> Self {
        MapOptions {
            len,
            at: At::Anywhere,
            search: Search::new(),
            hint: None,
            granularity: 1,
            prot: Prot::NONE,
            object: None,
            flags: VmaFlags::empty(),
            map_flags: MapFlags::empty(),
            merge: Merge::Both,
        }
    }

    /// At `addr`, in place of what is mapped there (`MAP_FIXED`).
    pub const fn fixed(self, addr: u64) -> Self {
        MapOptions { at: At::Fixed(addr), ..self }
    }

    /// At `addr`, if that is free (`MAP_FIXED_NOREPLACE`).
    pub const fn fixed_no_replace(self, addr: u64) -> Self {
        MapOptions { at: At::FixedNoReplace(addr), ..self }
    }

    /// At `addr` if that is free and aligned as the mapping must be, else anywhere.
    pub const fn hint(self, addr: u64) -> Self {
        MapOptions { hint: Some(addr), ..self }
    }

    /// Where to look: direction, window, guard. An alignment given there does not count: that is
    /// the page's, the huge page's or the granularity's.
    pub const fn search(self, search: Search) -> Self {
        MapOptions { search, ..self }
    }

    /// At a multiple of `bytes`, a power of two: the allocation granularity of systems where that
    /// is larger than a page, such as Windows' 64 KiB.
    pub const fn granularity(self, bytes: u64) -> Self {
        MapOptions { granularity: bytes, ..self }
    }

    /// What user code may do.
    pub const fn prot(self, prot: Prot) -> Self {
        MapOptions { prot, ..self }
    }

    /// The owner's object `id` from the byte `offset` on.
    pub const fn object(self, id: u64, offset: u64) -> Self {
        MapOptions { object: Some((id, offset)), ..self }
    }

    /// Stores are seen by everybody who maps the same object.
    pub const fn shared(self) -> Self {
        self.flag(VmaFlags::SHARED)
    }

    /// Stores are seen here only. The default.
    pub const fn copy_on_write(self) -> Self {
        MapOptions { flags: self.flags.difference(VmaFlags::SHARED), ..self }
    }

    /// Pages stay in memory.
    pub const fn locked(self) -> Self {
        self.flag(VmaFlags::LOCKED)
    }

    /// A fault below extends the VMA downwards.
    pub const fn grows_down(self) -> Self {
        self.flag(VmaFlags::GROWS_DOWN)
    }

    /// How the processor may cache it; VMAs of different types never merge.
    pub const fn mem_type(self, mem: MemType) -> Self {
        MapOptions { flags: self.flags.with_mem_type(mem), ..self }
    }

    /// Made of huge pages: aligned to them, and never cut inside one.
    pub const fn huge_pages(self, size: SplitGranularity) -> Self {
        MapOptions { flags: self.flags.with_split_granularity(size), ..self }
    }

    /// Huge pages are welcome where they fit.
    pub const fn transparent_huge_pages(self) -> Self {
        self.map_flag(MapFlags::TRANSPARENT_HUGE)
    }

    /// Takes the addresses and no memory; [`VmMap::commit`](crate::VmMap::commit) says later which
    /// parts are to be used. The protection is given there.
    pub const fn reserve(self) -> Self {
        self.map_flag(MapFlags::UNCOMMITTED)
    }

    /// No swap space is set aside.
    pub const fn no_reserve(self) -> Self {
        self.map_flag(MapFlags::NO_RESERVE)
    }

    /// Page tables are filled at once.
    pub const fn populate(self) -> Self {
        self.map_flag(MapFlags::POPULATE)
    }

    /// A stack.
    pub const fn stack(self) -> Self {
        self.map_flag(MapFlags::STACK)
    }

    /// Left out of core dumps.
    pub const fn no_core_dump(self) -> Self {
        self.map_flag(MapFlags::NO_CORE_DUMP)
    }

    /// Will be read in order.
    pub const fn sequential(self) -> Self {
        let map_flags = self.map_flags.difference(MapFlags::RANDOM);
        MapOptions { map_flags, ..self }.map_flag(MapFlags::SEQUENTIAL)
    }

    /// Will be read at random.
    pub const fn random(self) -> Self {
        let map_flags = self.map_flags.difference(MapFlags::SEQUENTIAL);
        MapOptions { map_flags, ..self }.map_flag(MapFlags::RANDOM)
    }

    /// May be writable and executable, at once or in turn: see [`WriteXorExec`].
    pub const fn jit(self) -> Self {
        self.map_flag(MapFlags::JIT)
    }

    /// Joined with these neighbours only.
    pub const fn merge(self, merge: Merge) -> Self {
        MapOptions { merge, ..self }
    }

    const fn flag(self, flag: VmaFlags) -> Self {
        MapOptions { flags: self.flags.union(flag), ..self }
    }

    const fn map_flag(self, flag: MapFlags) -> Self {
        MapOptions { map_flags: self.map_flags.union(flag), ..self }
    }

    /// The unit that address, length and offset must be multiples of, in bytes: the page, the huge
    /// page.
    fn unit(&self, page: PageSize) -> u64 {
        self.flags.split_granularity().bytes().unwrap_or(1).max(page.bytes())
    }

    /// The VMA that is asked for, in a space with this page size.
    ///
    /// [`Error::Unaligned`]: length, offset or fixed address is not a multiple of the page (of the
    /// huge page, of the granularity), or the granularity is no power of two.
    /// [`Error::ZeroLength`]. [`Error::OutOfRange`]: the object would end beyond its 64-bit
    /// offsets. `EACCES`: writable and executable at once, without [`jit`](Self::jit).
    pub fn request(&self, page: PageSize) -> Result<MapRequest, Error> {
        let unit = self.unit(page);
        let align = unit.max(self.granularity);
        if !self.granularity.is_power_of_two() || self.len & (unit - 1) != 0 {
            return Err(Error::Unaligned);
        }
        if self.len == 0 {
            return Err(Error::ZeroLength);
        }
        let attrs = self.attrs(page)?;
        let place = match self.at {
            At::Fixed(addr) | At::FixedNoReplace(addr) if addr & (align - 1) != 0 => {
                return Err(Error::Unaligned);
            }
            At::Fixed(addr) => Placement::Fixed(addr),
            At::FixedNoReplace(addr) => Placement::FixedNoReplace(addr),
            At::Anywhere => {
                let search = self.search.align(align).align_offset(0);
                Placement::Any(match self.hint.filter(|hint| hint & (align - 1) == 0) {
                    Some(hint) => search.hint(hint),
                    None => search,
                })
            }
        };
        Ok(MapRequest::new(place, self.len, attrs).with_merge(self.merge))
    }

    fn attrs(&self, page: PageSize) -> Result<Attrs, Error> {
        let reserved = self.map_flags.contains(MapFlags::UNCOMMITTED);
        let prot = if reserved { Prot::NONE } else { self.prot };
        if !write_xor_exec::allows(self.map_flags, prot) {
            return Err(Error::Refused(Errno::EACCES));
        }
        let backing = match self.object {
            None => Backing::Anonymous,
            Some((_, offset)) if offset & (self.unit(page) - 1) != 0 => {
                return Err(Error::Unaligned);
            }
            Some((_, offset)) if offset.checked_add(self.len).is_none() => {
                return Err(Error::OutOfRange);
            }
            Some((id, offset)) => Backing::Object { id, offset: page.page(offset) },
        };
        Ok(Attrs::default()
            .with_flags(self.flags.with_prot(prot))
            .with_map_flags(self.map_flags)
            .with_backing(backing))
    }
}
