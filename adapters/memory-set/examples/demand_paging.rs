//! An address space as ArceOS has it: device memory at a fixed distance, and memory of which faults
//! bring the frames. It would compile with `memory_set` instead; there, the last step has cost the
//! heap.
//!
//! ```sh
//! cargo run -p kvma-memory-set --example demand_paging
//! ```

use std::collections::BTreeMap;

use kvma_memory_set as memory_set;
use memory_addr::{MemoryAddr, PageIter4K, VirtAddr, va, va_range};
use memory_set::{MappingBackend, MappingError, MemoryArea, MemorySet};

/// Page to frame, and the frames that are free.
struct PageTable {
    entries: BTreeMap<VirtAddr, usize>,
    free: Vec<usize>,
}

#[derive(Clone)]
enum Backend {
    /// The frame lies this much below its page.
    Linear(usize),
    /// The frame comes with the first access.
    Alloc,
}

impl MappingBackend for Backend {
    type Addr = VirtAddr;
    type Flags = &'static str;
    type PageTable = PageTable;

    fn map(&self, start: VirtAddr, size: usize, _flags: &str, table: &mut PageTable) -> bool {
        let Self::Linear(distance) = *self else { return true };
        // Device memory ends somewhere.
        let pages = PageIter4K::new(start, start + size).into_iter().flatten();
        for page in pages {
            let Some(frame) = page.as_usize().checked_sub(distance) else { return false };
            table.entries.insert(page, frame);
        }
        true
    }

    fn unmap(&self, start: VirtAddr, size: usize, table: &mut PageTable) -> bool {
        for page in PageIter4K::new(start, start + size).into_iter().flatten() {
            if let Some(frame) = table.entries.remove(&page)
                && matches!(self, Self::Alloc)
            {
                table.free.push(frame);
            }
        }
        true
    }

    fn protect(&self, _: VirtAddr, _: usize, _: &str, _: &mut PageTable) -> bool {
        true // this page table has no rights in it
    }
}

/// Brings the page of `addr` in, if there is an area for it.
fn page_fault(set: &MemorySet<Backend>, table: &mut PageTable, addr: VirtAddr) -> bool {
    let Some(Backend::Alloc) = set.find(addr).map(MemoryArea::backend) else { return false };
    let Some(frame) = table.free.pop() else { return false };
    table.entries.insert(addr.align_down_4k(), frame);
    true
}

fn main() -> Result<(), MappingError> {
    let mut table = PageTable { entries: BTreeMap::new(), free: (1..=8).collect() };
    let mut set = MemorySet::new();

    let uart = MemoryArea::new(va!(0x9000_0000), 0x2000, "rw device", Backend::Linear(0x8000_0000));
    set.map(uart, &mut table, false)?;
    let space = va_range!(0x1_0000..0x8000_0000);
    let heap = set.find_free_area(va!(0x20_0000), 0x10_0000, space, 0x1000).expect("a gap");
    set.map(MemoryArea::new(heap, 0x10_0000, "rw", Backend::Alloc), &mut table, false)?;

    assert!(page_fault(&set, &mut table, heap + 0x5123));
    assert!(!page_fault(&set, &mut table, va!(0x1000)), "nothing is mapped there");
    set.protect(heap, 0x1000, |_| Some("r"), &mut table)?;
    for area in set.iter() {
        println!("{area:x?}");
    }

    // A device that lies nowhere, in the place of the heap: refused, and the heap is there.
    let nowhere = MemoryArea::new(heap, 0x10_0000, "rw device", Backend::Linear(usize::MAX));
    assert_eq!(set.map(nowhere, &mut table, true), Err(MappingError::BadState));
    assert_eq!(set.len(), 3);
    assert!(page_fault(&set, &mut table, heap + 0x6000));

    set.clear(&mut table)?;
    assert_eq!(table.free.len(), 8, "every frame came back");
    println!("refused a device that lies nowhere; the heap stayed, and no frame was lost");
    Ok(())
}
