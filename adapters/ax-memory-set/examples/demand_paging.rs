//! An address space as ArceOS has it, of which page faults bring the frames. The backends' context
//! gathers the pages to flush, so that each call ends with one flush. It would compile with
//! `ax_memory_set` instead.
//!
//! ```sh
//! cargo run -p kvma-ax-memory-set --example demand_paging
//! ```

use std::collections::BTreeMap;

use ax_memory_addr::{MemoryAddr, PageIter4K, VirtAddr, va, va_range};
use ax_memory_set::{MappingBackend, MappingError, MemoryArea, MemorySet};
use kvma_ax_memory_set as ax_memory_set;

/// Page to frame and rights, and the frames that are free.
struct PageTable {
    entries: BTreeMap<VirtAddr, (usize, &'static str)>,
    free: Vec<usize>,
}

/// The pages whose entries have lost something since the last flush.
#[derive(Default)]
struct Tlb {
    stale: Vec<VirtAddr>,
    flushes: usize,
}

impl Tlb {
    fn flush(&mut self) {
        self.flushes += usize::from(!self.stale.is_empty());
        self.stale.clear();
    }
}

/// Memory whose frames come with the first access.
#[derive(Clone)]
struct Alloc;

fn pages(start: VirtAddr, size: usize) -> impl Iterator<Item = VirtAddr> {
    PageIter4K::new(start, start + size).into_iter().flatten()
}

impl MappingBackend for Alloc {
    type Addr = VirtAddr;
    type Flags = &'static str;
    type MutationContext = Tlb;
    type PageTable = PageTable;

    fn map(&self, _: VirtAddr, _: usize, _: &str, _: &mut Tlb, _: &mut PageTable) -> bool {
        true
    }

    fn unmap(&self, start: VirtAddr, size: usize, tlb: &mut Tlb, table: &mut PageTable) -> bool {
        for page in pages(start, size) {
            if let Some((frame, _)) = table.entries.remove(&page) {
                table.free.push(frame);
                tlb.stale.push(page);
            }
        }
        true
    }

    fn protect(
        &self,
        start: VirtAddr,
        size: usize,
        new: &'static str,
        tlb: &mut Tlb,
        table: &mut PageTable,
    ) -> bool {
        for page in pages(start, size) {
            if let Some((_, rights)) = table.entries.get_mut(&page) {
                *rights = new;
                tlb.stale.push(page);
            }
        }
        true
    }

    fn split(&mut self, _at: usize) -> Option<Self> {
        Some(Self)
    }
}

/// Brings the page of `addr` in, if there is an area for it.
fn page_fault(set: &MemorySet<Alloc>, table: &mut PageTable, addr: VirtAddr) -> bool {
    let Some(area) = set.find(addr) else { return false };
    let Some(frame) = table.free.pop() else { return false };
    table.entries.insert(addr.align_down_4k(), (frame, area.flags()));
    true
}

fn main() -> Result<(), MappingError> {
    let mut table = PageTable { entries: BTreeMap::new(), free: (1..=8).collect() };
    let (mut set, mut tlb) = (MemorySet::new(), Tlb::default());

    let space = va_range!(0x1_0000..0x8000_0000);
    let heap = set.find_free_area(va!(0x20_0000), 0x10_0000, space, 0x1000).expect("a gap");
    set.map(MemoryArea::new(heap, 0x10_0000, "rw", Alloc), &mut tlb, &mut table, false)?;
    for page in [0, 1, 9] {
        assert!(page_fault(&set, &mut table, heap + page * 0x1000 + 0x123));
    }
    assert!(!page_fault(&set, &mut table, va!(0x1000)), "nothing is mapped there");

    set.protect(heap, 0x2000, |_| Some("r"), &mut tlb, &mut table)?;
    println!("{} entries have lost a right", tlb.stale.len());
    tlb.flush();
    for area in set.iter() {
        println!("{area:x?}");
    }
    assert_eq!((set.len(), table.entries[&heap].1), (2, "r"));

    set.unmap(heap + 0x1000, 0xf_f000, &mut tlb, &mut table)?;
    tlb.flush();
    assert_eq!((set.len(), table.free.len(), tlb.flushes), (1, 7, 2));
    println!("unmapped all but a page: {} of 8 frames are free", table.free.len());
    Ok(())
}
