//! Page tables of the `page_table_multiarch` crate, version 0.6, on any of its architectures.

use core::cell::{Cell, RefCell};
use core::fmt;

use kvma::{Attrs, Error, MemType, Prot, VmRange};
use page_table_multiarch_06::{
    GenericPTE, MappingFlags, PageSize, PageTable64, PagingError, PagingHandler, PagingMetaData,
};

use crate::table::{Leaf, PageTable, Reach};

/// Returns the flags for pages with these attributes.
///
/// An entry without flags is taken for none. So pages without rights are left to the kernel to
/// read, as are those that can only be written to.
///
/// ```
/// use kvma::{Attrs, Prot};
/// use kvma_page_table::Reach;
/// use kvma_page_table::page_table_multiarch_06::flags;
/// use page_table_multiarch_06::MappingFlags as F;
///
/// let code = F::READ | F::EXECUTE | F::USER;
/// assert_eq!(flags(&Attrs::new(Prot::RX), Reach::User), code);
/// assert_eq!(flags(&Attrs::new(Prot::NONE), Reach::User), F::READ);
/// ```
pub fn flags(attrs: &Attrs, reach: Reach) -> MappingFlags {
    let prot = attrs.prot();
    let mut flags = MappingFlags::READ;
    flags.set(MappingFlags::WRITE, prot.contains(Prot::WRITE));
    flags.set(MappingFlags::EXECUTE, prot.contains(Prot::EXEC));
    flags.set(MappingFlags::USER, reach == Reach::User && !prot.is_empty());
    match attrs.mem_type() {
        MemType::WriteBack => {}
        MemType::Device => flags |= MappingFlags::DEVICE,
        _ => flags |= MappingFlags::UNCACHED,
    }
    flags
}

/// A page table of that crate.
pub struct Multiarch<'a, M: PagingMetaData, E: GenericPTE, H: PagingHandler> {
    table: &'a mut PageTable64<M, E, H>,
    reach: Reach,
}

/// Ranges of so many pages are looked up page by page, which skips nothing. For longer ones, the
/// whole table is walked.
const FEW_PAGES: u64 = 1024;

/// How many leaves one walk finds.
const LEAVES_PER_WALK: usize = 64;

impl<'a, M: PagingMetaData, E: GenericPTE, H: PagingHandler> Multiarch<'a, M, E, H> {
    /// Makes a page table of theirs fit for [`TableHooks`](crate::TableHooks).
    pub const fn new(table: &'a mut PageTable64<M, E, H>, reach: Reach) -> Self {
        Self { table, reach }
    }

    /// Returns the flags of the entry that maps `addr`, if there is one.
    pub fn query(&self, addr: u64) -> Option<MappingFlags> {
        let (_, flags, _) = self.table.query(virt_addr::<M>(addr)?).ok()?;
        Some(flags)
    }

    /// Returns the leaf that holds `addr`.
    fn leaf(&self, addr: u64) -> Option<Leaf> {
        let (frame, _, size) = self.table.query(virt_addr::<M>(addr)?).ok()?;
        let size = size as u64;
        let ahead = addr & (size - 1);
        Some(Leaf { addr: addr - ahead, frame: frame.as_usize() as u64 - ahead, size })
    }

    /// Finds the first leaves that end behind `from` and begin by `last`. O(leaves of the table).
    fn walk(&self, from: u64, last: u64) -> ([Option<Leaf>; LEAVES_PER_WALK], usize) {
        let found = RefCell::new([None; LEAVES_PER_WALK]);
        let count = Cell::new(0);
        let look = |level: usize, _: usize, addr: M::VirtAddr, entry: &E| {
            let below = M::LEVELS - 1 - level;
            if below > 0 && !entry.is_huge() {
                return;
            }
            let addr = sign_extended::<M>(addr.into());
            let leaf =
                Leaf { addr, frame: entry.paddr().as_usize() as u64, size: 0x1000 << (9 * below) };
            if leaf.last() >= from && leaf.addr <= last && count.get() < LEAVES_PER_WALK {
                found.borrow_mut()[count.get()] = Some(leaf);
                count.set(count.get() + 1);
            }
        };
        self.table.walk(usize::MAX, Some(&look), None);
        (found.into_inner(), count.get())
    }

    fn map_leaf(&mut self, leaf: Leaf, flags: MappingFlags) -> Result<(), Error> {
        let size = match leaf.size {
            0x1000 => PageSize::Size4K,
            0x20_0000 => PageSize::Size2M,
            0x4000_0000 => PageSize::Size1G,
            _ => return Err(Error::Unaligned),
        };
        if !(leaf.addr | leaf.frame).is_multiple_of(leaf.size) {
            return Err(Error::Unaligned);
        }
        let addr = virt_addr::<M>(leaf.addr).ok_or(Error::OutOfRange)?;
        let frame = usize::try_from(leaf.frame).map_err(|_| Error::OutOfRange)?;
        if !M::paddr_is_valid(frame) {
            return Err(Error::OutOfRange);
        }
        let mapped = self.table.cursor().map(addr, frame.into(), size, flags);
        mapped.map_err(|error| match error {
            PagingError::NoMemory => Error::OutOfMemory,
            _ => Error::Overlap,
        })
    }
}

/// Returns the address as the table has it; `None` if it cannot hold it.
fn virt_addr<M: PagingMetaData>(addr: u64) -> Option<M::VirtAddr> {
    let addr = usize::try_from(addr).ok()?;
    M::vaddr_is_valid(addr).then(|| addr.into())
}

/// Returns an address with its unused bits set as the table's addresses have them: a walk leaves
/// them clear.
fn sign_extended<M: PagingMetaData>(addr: usize) -> u64 {
    let addr = if M::vaddr_is_valid(addr) { addr } else { addr | (usize::MAX << M::VA_MAX_BITS) };
    addr as u64
}

impl<M: PagingMetaData, E: GenericPTE, H: PagingHandler> PageTable for Multiarch<'_, M, E, H> {
    /// A few pages are looked up one by one. Else O(leaves of the table), for 64 leaves at a time.
    fn each_leaf(&mut self, range: VmRange, act: &mut dyn FnMut(&mut Self, Leaf)) {
        let (mut from, last) = (range.start(), range.last());
        if range.page_count() <= FEW_PAGES {
            for addr in range.pages() {
                if addr >= from
                    && let Some(leaf) = self.leaf(addr)
                {
                    act(self, leaf);
                    from = leaf.last();
                }
            }
            return;
        }
        loop {
            let (leaves, count) = self.walk(from, last);
            for leaf in leaves.into_iter().flatten() {
                act(self, leaf);
                from = leaf.last().saturating_add(1);
            }
            if count < LEAVES_PER_WALK || from > last {
                return;
            }
        }
    }

    fn map(&mut self, leaf: Leaf, attrs: &Attrs) -> Result<(), Error> {
        self.map_leaf(leaf, flags(attrs, self.reach))
    }

    fn unmap(&mut self, leaf: Leaf) {
        if let Some(addr) = virt_addr::<M>(leaf.addr) {
            let unmapped = self.table.cursor().unmap(addr);
            debug_assert!(unmapped.is_ok(), "the leaf was found a moment ago");
        }
    }

    fn protect(&mut self, leaf: Leaf, attrs: &Attrs) {
        if let Some(addr) = virt_addr::<M>(leaf.addr) {
            let changed = self.table.cursor().protect(addr, flags(attrs, self.reach));
            debug_assert!(changed.is_ok(), "the leaf was found a moment ago");
        }
    }

    fn reserve(&mut self, addr: u64, size: u64) -> Result<(), Error> {
        // An entry that is not present, so that the tables above it are there.
        match self.map_leaf(Leaf { addr, frame: 0, size }, MappingFlags::empty()) {
            Ok(()) => {
                if let Some(addr) = virt_addr::<M>(addr) {
                    // Clears it, and says that it was not present.
                    let _ = self.table.cursor().unmap(addr);
                }
                Ok(())
            }
            // What is there already has its tables; whether it may be there, the map knows.
            Err(Error::Overlap) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<M: PagingMetaData, E: GenericPTE, H: PagingHandler> fmt::Debug for Multiarch<'_, M, E, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiarch").field("reach", &self.reach).finish_non_exhaustive()
    }
}
