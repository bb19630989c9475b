//! The page table, and the hooks through which kvma edits it.

use kvma::{Attrs, Error, Hooks, Piece, Prot, VmRange};
use spin::LazyLock;
use spin::mutex::SpinMutex;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::mapper::{CleanUp, MapToError};
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageTableFlags, PhysFrame, Size4KiB,
};

use crate::frames::{self, FrameList};

/// The page-table lock. Hooks take it under kvma's lock, the fault handler takes it alone.
pub static PAGE_TABLE: LazyLock<SpinMutex<PageTable>> = LazyLock::new(|| {
    let root =
        core::ptr::with_exposed_provenance_mut(Cr3::read().0.start_address().as_u64() as usize);
    // SAFETY: the entry code has made this table, nothing else refers to it, and all of physical
    // memory is mapped one to one.
    let mapper = unsafe { OffsetPageTable::new(&mut *root, VirtAddr::zero()) };
    SpinMutex::new(PageTable { mapper })
});

pub struct PageTable {
    mapper: OffsetPageTable<'static>,
}

fn page(addr: u64) -> Page<Size4KiB> {
    Page::containing_address(VirtAddr::new_truncate(addr))
}

/// Returns the flags of an entry. Without any right it is not present, and keeps its frame.
fn flags(prot: Prot) -> PageTableFlags {
    let mut flags = PageTableFlags::NO_EXECUTE;
    flags.set(PageTableFlags::PRESENT, !prot.is_empty());
    flags.set(PageTableFlags::WRITABLE, prot.contains(Prot::WRITE));
    flags.set(PageTableFlags::NO_EXECUTE, !prot.contains(Prot::EXEC));
    flags
}

impl PageTable {
    /// Writes the entry of the page of `addr`.
    pub fn map(
        &mut self,
        addr: u64,
        frame: PhysFrame,
        prot: Prot,
    ) -> Result<(), MapToError<Size4KiB>> {
        // The tables above allow everything, so that `protect` need only edit the last level.
        let tables = PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        // SAFETY: the frame is the caller's alone, and the page is the program's.
        let flush = unsafe {
            self.mapper.map_to_with_table_flags(
                page(addr),
                frame,
                flags(prot),
                tables,
                &mut frames::Allocator,
            )
        };
        flush.map(|flush| flush.flush())
    }

    /// Takes the entries of `range` away, and the tables that become empty. The frames go to
    /// `removed`.
    fn unmap(&mut self, range: VmRange, removed: &mut FrameList) {
        for addr in range.pages() {
            // The crate takes only present entries away, so those of PROT_NONE become present.
            // SAFETY: the entry is about to go, and the program's pages are its own.
            let entry = unsafe { self.mapper.update_flags(page(addr), PageTableFlags::PRESENT) };
            if entry.is_ok()
                && let Ok((frame, flush)) = self.mapper.unmap(page(addr))
            {
                flush.ignore(); // `flush_begin` flushes everything
                removed.push(frame);
            }
        }
        let range = Page::range_inclusive(page(range.start()), page(range.last()));
        // SAFETY: the tables of the program's half are in this page table alone.
        unsafe { self.mapper.clean_up_addr_range(range, removed) };
    }

    fn protect(&mut self, range: VmRange, prot: Prot) {
        for addr in range.pages() {
            // SAFETY: these are the rights that the program has from now on.
            if let Ok(flush) = unsafe { self.mapper.update_flags(page(addr), flags(prot)) } {
                flush.ignore();
            }
        }
    }
}

/// The hooks of one call. Mapping leaves the page table alone: faults fill it.
#[derive(Default)]
pub struct PageHooks {
    removed: FrameList,
}

impl Hooks<()> for PageHooks {
    type Error = Error;

    /// Nothing to prepare: the hooks below only take away or narrow, which needs no memory.
    fn prepares(&self) -> bool {
        false
    }

    fn on_unmap(&mut self, piece: &Piece<'_, ()>) {
        PAGE_TABLE.lock().unmap(piece.range(), &mut self.removed);
    }

    fn on_protect(&mut self, piece: &Piece<'_, ()>, _old: &Attrs) {
        PAGE_TABLE.lock().protect(piece.range(), piece.attrs().prot());
    }

    /// Runs under kvma's lock. With more processors, this is where to interrupt them…
    fn flush_begin(&mut self) {
        tlb::flush_all();
    }

    /// …and this, after unlock, where to wait until they have answered. Only then may frames be
    /// used again.
    fn flush_wait(&mut self) {
        self.removed.free_all();
    }
}
