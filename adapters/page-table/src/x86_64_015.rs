//! Page tables of the `x86_64` crate, version 0.15: any of its mappers.

use core::fmt;

use kvma::{Attrs, Error, MemType, Prot, VmRange};
use x86_64_015::addr::{PhysAddr, VirtAddr};
use x86_64_015::structures::paging::mapper::{FlagUpdateError, MapToError, TranslateError};
use x86_64_015::structures::paging::page::PageRangeInclusive;
use x86_64_015::structures::paging::{
    FrameAllocator, Mapper, Page, PageSize, PageTableFlags, PhysFrame, Size1GiB, Size2MiB, Size4KiB,
};

use crate::table::{Leaf, PageTable, Reach};

/// The lower half of the address space without its first page, for programs: the bounds that
/// [`VmMap::new`](kvma::VmMap::new) takes.
pub const USER_SPACE: core::ops::RangeInclusive<u64> = 0x1000..=0x7fff_ffff_ffff;

/// The first address of the upper half. Between the halves, no address is canonical.
const UPPER_HALF: u64 = 0xffff_8000_0000_0000;

/// Returns the address as the crate has it; `None` if it is not canonical.
pub fn virt_addr(addr: u64) -> Option<VirtAddr> {
    VirtAddr::try_new(addr).ok()
}

/// Returns the pages of a range; `None` if its ends are not canonical, or not in the same half.
///
/// ```
/// use kvma::{PageSize, VmRange};
/// use kvma_page_table::x86_64_015::pages;
///
/// let range = VmRange::new(0x4000, 0x3000, PageSize::SIZE_4K)?;
/// assert_eq!(pages(range).map(|pages| pages.count()), Some(3));
/// let middle = VmRange::new(0x7fff_ffff_f000, 0x2000, PageSize::SIZE_4K)?;
/// assert!(pages(middle).is_none());
/// # Ok::<(), kvma::Error>(())
/// ```
pub fn pages(range: VmRange) -> Option<PageRangeInclusive<Size4KiB>> {
    let (first, last) = (virt_addr(range.start())?, virt_addr(range.last())?);
    // Bit 47 is the half.
    let same_half = (first.as_u64() ^ last.as_u64()) >> 47 == 0;
    same_half.then(|| {
        Page::range_inclusive(Page::containing_address(first), Page::containing_address(last))
    })
}

/// Returns the range of a range of pages.
///
/// # Errors
///
/// [`Error::ZeroLength`] if the last page lies before the first.
pub fn range(pages: PageRangeInclusive<Size4KiB>) -> Result<VmRange, Error> {
    let first = pages.start.start_address().as_u64();
    let last = pages.end.start_address().as_u64() | (Size4KiB::SIZE - 1);
    VmRange::from_bounds(first, last, kvma::PageSize::SIZE_4K)
}

/// Returns the flags of an entry for pages with these attributes. Without any right it is not
/// present, and keeps its frame.
///
/// The processor knows neither pages that can be written to and not read, nor such that can only
/// be executed: both can be read. Write-combining needs a page-attribute table that the kernel has
/// set up, and is uncached here.
///
/// ```
/// use kvma::{Attrs, Prot};
/// use kvma_page_table::Reach;
/// use kvma_page_table::x86_64_015::flags;
/// use x86_64_015::structures::paging::PageTableFlags as F;
///
/// let data = F::PRESENT | F::WRITABLE | F::NO_EXECUTE | F::USER_ACCESSIBLE;
/// assert_eq!(flags(&Attrs::new(Prot::RW), Reach::User), data);
/// assert_eq!(flags(&Attrs::new(Prot::RX), Reach::Kernel), F::PRESENT);
/// assert!(!flags(&Attrs::new(Prot::NONE), Reach::User).contains(F::PRESENT));
/// ```
pub fn flags(attrs: &Attrs, reach: Reach) -> PageTableFlags {
    let prot = attrs.prot();
    let mut flags = PageTableFlags::empty();
    flags.set(PageTableFlags::PRESENT, !prot.is_empty());
    flags.set(PageTableFlags::WRITABLE, prot.contains(Prot::WRITE));
    flags.set(PageTableFlags::NO_EXECUTE, !prot.contains(Prot::EXEC));
    flags.set(PageTableFlags::USER_ACCESSIBLE, reach == Reach::User);
    if attrs.mem_type() != MemType::WriteBack {
        flags |= PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH;
    }
    flags
}

/// A mapper, and where tables come from.
pub struct Mapped<M, A> {
    mapper: M,
    tables: A,
    reach: Reach,
}

impl<M, A> Mapped<M, A>
where
    M: Mapper<Size4KiB> + Mapper<Size2MiB> + Mapper<Size1GiB>,
    A: FrameAllocator<Size4KiB>,
{
    /// Makes a page table of a mapper. `mapper` may be a `&mut` of one.
    ///
    /// # Safety
    ///
    /// Safe code edits the page table from here on, wherever the map that it is kept beside lies.
    /// So the map's space must hold nothing that the kernel itself is made of: its code, data,
    /// stacks, its view of physical memory. And the entries there must be the map's alone.
    pub const unsafe fn new(mapper: M, tables: A, reach: Reach) -> Self {
        Self { mapper, tables, reach }
    }

    /// Returns the mapper.
    pub const fn mapper(&self) -> &M {
        &self.mapper
    }

    /// Gives the mapper and the allocator back.
    pub fn into_parts(self) -> (M, A) {
        (self.mapper, self.tables)
    }

    /// Returns the leaf that holds `addr`, or the address before which there is none.
    fn leaf(&self, addr: u64) -> Result<Leaf, u64> {
        if virt_addr(addr).is_none() {
            return Err(UPPER_HALF);
        }
        let huge = self.leaf_of::<Size1GiB>(addr);
        if let Err(Missing::Here) | Ok(_) = huge {
            return huge.map_err(|_| end_of::<Size1GiB>(addr));
        }
        let large = self.leaf_of::<Size2MiB>(addr);
        if let Err(Missing::Here) | Ok(_) = large {
            return large.map_err(|_| end_of::<Size2MiB>(addr));
        }
        self.leaf_of::<Size4KiB>(addr).map_err(|_| end_of::<Size4KiB>(addr))
    }

    /// Returns the flags of a leaf. A larger one has to stay present without any right, since the
    /// crate does not tell it from a table then: it can be read by the kernel.
    fn leaf_flags(&self, leaf: Leaf, attrs: &Attrs) -> PageTableFlags {
        let flags = flags(attrs, self.reach);
        if leaf.size > Size4KiB::SIZE && attrs.prot().is_empty() { HIDDEN } else { flags }
    }

    fn leaf_of<S: PageSize>(&self, addr: u64) -> Result<Leaf, Missing>
    where
        M: Mapper<S>,
    {
        let page = page_of::<S>(addr).ok_or(Missing::Here)?;
        let frame = match self.mapper.translate_page(page) {
            Ok(frame) => frame.start_address().as_u64(),
            Err(TranslateError::PageNotMapped) => return Err(Missing::Here),
            // A table, whose address need not have the alignment of the leaf.
            Err(_) => return Err(Missing::Below),
        };
        // A table may have that alignment, too. Only a leaf of the level below tells.
        if S::SIZE > Size4KiB::SIZE && self.is_table(addr, S::SIZE) {
            return Err(Missing::Below);
        }
        Ok(Leaf { addr: page.start_address().as_u64(), frame, size: S::SIZE })
    }

    /// Returns `true` if the entry of this size at `addr` leads to a table.
    fn is_table(&self, addr: u64, size: u64) -> bool {
        // One level below, a leaf above answers that it is in the way.
        let error = if size == Size1GiB::SIZE {
            page_of::<Size2MiB>(addr).and_then(|page| self.mapper.translate_page(page).err())
        } else {
            page_of::<Size4KiB>(addr).and_then(|page| self.mapper.translate_page(page).err())
        };
        !matches!(error, Some(TranslateError::ParentEntryHugePage))
    }

    fn map_page<S: PageSize>(
        &mut self,
        addr: u64,
        frame: u64,
        flags: PageTableFlags,
    ) -> Result<(), Error>
    where
        M: Mapper<S>,
    {
        let page = page_of::<S>(addr).ok_or(Error::OutOfRange)?;
        let frame = PhysAddr::try_new(frame).map_err(|_| Error::OutOfRange)?;
        let frame = PhysFrame::<S>::from_start_address(frame).map_err(|_| Error::Unaligned)?;
        // The tables above allow everything, so that `protect` need only edit the leaf.
        let mut above = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        above.set(PageTableFlags::USER_ACCESSIBLE, self.reach == Reach::User);
        // SAFETY: by the contract of `new`, nothing lies there that the kernel is made of. It says
        // whose the frame is by mapping it.
        let mapped = unsafe {
            self.mapper.map_to_with_table_flags(page, frame, flags, above, &mut self.tables)
        };
        match mapped {
            Ok(flush) => {
                flush.ignore(); // an entry that was not present is in no TLB
                Ok(())
            }
            Err(MapToError::FrameAllocationFailed) => Err(Error::OutOfMemory),
            Err(_) => Err(Error::Overlap),
        }
    }

    fn set_flags<S: PageSize>(
        &mut self,
        addr: u64,
        flags: PageTableFlags,
    ) -> Result<(), FlagUpdateError>
    where
        M: Mapper<S>,
    {
        let page = page_of::<S>(addr).ok_or(FlagUpdateError::PageNotMapped)?;
        // SAFETY: by the contract of `new`, nothing that the kernel is made of lies there.
        unsafe { self.mapper.update_flags(page, flags) }.map(|flush| flush.ignore())
    }

    fn unmap_page<S: PageSize>(&mut self, addr: u64)
    where
        M: Mapper<S>,
    {
        // The crate takes only present entries away, so those without rights become present, for
        // the kernel to read.
        if let Some(page) = page_of::<S>(addr)
            && self.set_flags::<S>(addr, HIDDEN).is_ok()
            && let Ok((_, flush)) = self.mapper.unmap(page)
        {
            flush.ignore(); // `Frames::flush_begin` flushes
        }
    }
}

/// The flags of an entry that the kernel alone can read.
const HIDDEN: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);

/// Why there is no leaf of a size.
enum Missing {
    /// Nothing is mapped there.
    Here,
    /// There is a table of smaller ones.
    Below,
}

fn page_of<S: PageSize>(addr: u64) -> Option<Page<S>> {
    virt_addr(addr).map(Page::containing_address)
}

/// Returns the address behind the page that holds `addr`, `u64::MAX` for 2^64.
fn end_of<S: PageSize>(addr: u64) -> u64 {
    (addr | (S::SIZE - 1)).saturating_add(1)
}

impl<M, A> PageTable for Mapped<M, A>
where
    M: Mapper<Size4KiB> + Mapper<Size2MiB> + Mapper<Size1GiB>,
    A: FrameAllocator<Size4KiB>,
{
    /// Skips what has no tables, a gigabyte at a time.
    fn each_leaf(&mut self, range: VmRange, act: &mut dyn FnMut(&mut Self, Leaf)) {
        let mut addr = range.start();
        while addr <= range.last() {
            let next = match self.leaf(addr) {
                Ok(leaf) => {
                    act(self, leaf);
                    leaf.last().saturating_add(1)
                }
                Err(next) => next,
            };
            if next == u64::MAX {
                return;
            }
            addr = next;
        }
    }

    fn map(&mut self, leaf: Leaf, attrs: &Attrs) -> Result<(), Error> {
        let flags = self.leaf_flags(leaf, attrs);
        match leaf.size {
            Size4KiB::SIZE => self.map_page::<Size4KiB>(leaf.addr, leaf.frame, flags),
            Size2MiB::SIZE => self.map_page::<Size2MiB>(leaf.addr, leaf.frame, flags),
            Size1GiB::SIZE => self.map_page::<Size1GiB>(leaf.addr, leaf.frame, flags),
            _ => Err(Error::Unaligned),
        }
    }

    fn unmap(&mut self, leaf: Leaf) {
        match leaf.size {
            Size1GiB::SIZE => self.unmap_page::<Size1GiB>(leaf.addr),
            Size2MiB::SIZE => self.unmap_page::<Size2MiB>(leaf.addr),
            _ => self.unmap_page::<Size4KiB>(leaf.addr),
        }
    }

    fn protect(&mut self, leaf: Leaf, attrs: &Attrs) {
        let flags = self.leaf_flags(leaf, attrs);
        let changed = match leaf.size {
            Size1GiB::SIZE => self.set_flags::<Size1GiB>(leaf.addr, flags),
            Size2MiB::SIZE => self.set_flags::<Size2MiB>(leaf.addr, flags),
            _ => self.set_flags::<Size4KiB>(leaf.addr, flags),
        };
        debug_assert!(changed.is_ok(), "the leaf was found a moment ago");
    }

    fn reserve(&mut self, addr: u64, size: u64) -> Result<(), Error> {
        // An entry that maps nothing, so that the tables above it are there.
        let nothing = PageTableFlags::empty();
        let reserved = match size {
            Size1GiB::SIZE => self
                .map_page::<Size1GiB>(addr, 0, nothing)
                .map(|()| self.unmap_page::<Size1GiB>(addr)),
            Size2MiB::SIZE => self
                .map_page::<Size2MiB>(addr, 0, nothing)
                .map(|()| self.unmap_page::<Size2MiB>(addr)),
            _ => self.map_page::<Size4KiB>(addr, 0, nothing),
        };
        // What is there already has its tables; whether it may be there, the map knows.
        if reserved == Err(Error::Overlap) { Ok(()) } else { reserved }
    }
}

impl<M, A> fmt::Debug for Mapped<M, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapped").field("reach", &self.reach).finish_non_exhaustive()
    }
}
