//! An address space whose page table is a `PageTable64` of `page_table_multiarch`, as ArceOS has
//! it. Page tables lie in a static here, so that it runs anywhere.
//!
//! ```sh
//! cargo run -p kvma-page-table --features page_table_multiarch_06 --example multiarch
//! ```

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use kvma::{
    AddrSpace, Attrs, Error, FixedPool, MapRequest, PageSize, Placement, Prot, VmMap, VmaNode,
};
use kvma_page_table::page_table_multiarch_06::Multiarch;
use kvma_page_table::{Frames, Leaf, PageTable, Reach, TableHooks};
use memory_addr::{PhysAddr, VirtAddr};
#[cfg(target_arch = "aarch64")]
use page_table_entry::aarch64::A64PTE as Entry;
#[cfg(target_arch = "x86_64")]
use page_table_entry::x86_64::X64PTE as Entry;
use page_table_multiarch_06::{PageTable64, PagingHandler, PagingMetaData};

static NODES: FixedPool<VmaNode, 64> = FixedPool::new();

/// Memory for one page of a page table.
#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

static PAGES: [Page; 16] = [const { Page([const { AtomicU64::new(0) }; 512]) }; 16];
static FREE_PAGES: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Gives out the pages, whose addresses are "physical" here.
struct Handler;

impl PagingHandler for Handler {
    fn alloc_frames(count: usize, _align: usize) -> Option<PhysAddr> {
        let page = FREE_PAGES.lock().unwrap().pop().filter(|_| count == 1)?;
        Some(PhysAddr::from_usize(PAGES[page].0.as_ptr().expose_provenance()))
    }

    fn dealloc_frames(frame: PhysAddr, _count: usize) {
        let first = PAGES.as_ptr().addr();
        FREE_PAGES.lock().unwrap().push((frame.as_usize() - first) / 4096);
    }

    fn phys_to_virt(frame: PhysAddr) -> VirtAddr {
        VirtAddr::from_usize(frame.as_usize())
    }
}

/// A kernel has its architecture's here, such as `X64PagingMetaData`. Its flush is a privileged
/// instruction.
struct Meta;

impl PagingMetaData for Meta {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;

    type VirtAddr = VirtAddr;

    fn flush_tlb(_: Option<VirtAddr>) {}
}

/// The frames of this kernel, and those that no entry shows any more.
#[derive(Default)]
struct Memory {
    removed: Vec<u64>,
    free: Vec<u64>,
}

impl Frames for Memory {
    fn removed(&mut self, leaf: Leaf) {
        self.removed.push(leaf.frame);
    }

    fn flush_begin(&mut self) {} // here a kernel flushes, and interrupts the other processors

    fn flush_wait(&mut self) {
        self.free.append(&mut self.removed); // and here it waits for them first
    }
}

fn main() -> Result<(), Error> {
    FREE_PAGES.lock().unwrap().extend(0..PAGES.len());
    let mut table = PageTable64::<Meta, Entry, Handler>::try_new().expect("a page for the root");
    let mut table = Multiarch::new(&mut table, Reach::User);
    let mut memory = Memory::default();

    let map = VmMap::new(0x1000..=0x7fff_ffff_efff, PageSize::SIZE_4K, &NODES)?;
    let space = AddrSpace::new(map);
    let request = MapRequest::new(Placement::Fixed(0x40_0000), 0x8000, Attrs::new(Prot::RW));
    let addr = space.map(request, &mut TableHooks::new(&mut table, &mut memory))?;

    // Page faults. A kernel takes the lock of its page table between lookup and entry.
    for (page, frame) in [(0, 0x10_0000), (1, 0x10_1000), (6, 0x10_2000)] {
        let fault = addr + page * 0x1000 + 0x123;
        let vma = space.lookup(fault).ok_or(Error::NotMapped)?;
        if space.still_valid(vma.token()) {
            table.map(Leaf { addr: fault & !0xfff, frame, size: 0x1000 }, &vma.attrs())?;
        }
    }

    // Rights go from the entries that are there. What was unmapped comes back after the flush.
    space.protect(addr, 0x1000, Prot::READ, &mut TableHooks::new(&mut table, &mut memory))?;
    println!("{addr:#x}: {:?}", table.query(addr));
    println!("{:#x}: {:?}", addr + 0x1000, table.query(addr + 0x1000));
    space.unmap(addr + 0x1000, 0x7000, &mut TableHooks::new(&mut table, &mut memory))?;
    println!("free: {:x?}", memory.free);
    assert!(table.query(addr).is_some() && table.query(addr + 0x1000).is_none());
    assert_eq!(memory.free, [0x10_1000, 0x10_2000]);
    Ok(())
}
