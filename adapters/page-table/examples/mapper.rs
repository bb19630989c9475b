//! An address space whose page table is an `OffsetPageTable` of the `x86_64` crate, as a kernel has
//! it. Physical memory is an array here, so that it runs anywhere.
//!
//! ```sh
//! cargo run -p kvma-page-table --features x86_64_015 --example mapper
//! ```

use kvma::{
    AddrSpace, Attrs, Error, FixedPool, MapRequest, PageSize, Placement, Prot, Search, VmMap,
    VmaNode,
};
use kvma_page_table::x86_64_015::{Mapped, USER_SPACE};
use kvma_page_table::{Frames, Leaf, PageTable, Reach, TableHooks};
use x86_64_015::structures::paging::{
    FrameAllocator, OffsetPageTable, PageTable as Table, PhysFrame, Size4KiB, Translate,
};
use x86_64_015::{PhysAddr, VirtAddr};

static NODES: FixedPool<VmaNode, 64> = FixedPool::new();

/// Physical memory: 256 frames, of which the first is the root of the page table.
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Frame([u8; 4096]);

/// Hands out frames from the end.
struct Supply {
    next: u64,
}

// SAFETY: each frame is handed out once, and the root never.
unsafe impl FrameAllocator<Size4KiB> for Supply {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.next = self.next.checked_sub(1).filter(|&next| next > 0)?;
        Some(PhysFrame::containing_address(PhysAddr::new(self.next * 4096)))
    }
}

/// The frames of this kernel, and those that no entry shows any more.
#[derive(Default)]
struct Memory {
    removed: Vec<u64>,
    free: Vec<u64>,
    flushes: u32,
}

impl Frames for Memory {
    fn removed(&mut self, leaf: Leaf) {
        self.removed.push(leaf.frame);
    }

    fn flush_begin(&mut self) {
        self.flushes += 1; // here a kernel flushes, and interrupts the other processors
    }

    fn flush_wait(&mut self) {
        self.free.append(&mut self.removed); // and here it waits for them first
    }
}

fn main() -> Result<(), Error> {
    let mut ram = vec![Frame([0; 4096]); 256];
    let base = ram.as_mut_ptr();
    let offset = VirtAddr::from_ptr(base);
    // SAFETY: the first frame is a page table without entries, and `base` plus a physical address
    // is where its byte lies. Nothing else refers to the array.
    let mapper = unsafe { OffsetPageTable::new(&mut *base.cast::<Table>(), offset) };
    // SAFETY: no processor uses this table.
    let mut table = unsafe { Mapped::new(mapper, Supply { next: 256 }, Reach::User) };
    let mut memory = Memory::default();

    let map = VmMap::new(USER_SPACE, PageSize::SIZE_4K, &NODES)?;
    let space = AddrSpace::new(map);
    let anywhere = Placement::Any(Search::new().top_down());
    let request = MapRequest::new(anywhere, 1 << 30, Attrs::new(Prot::RW));
    let addr = space.map(request, &mut TableHooks::new(&mut table, &mut memory))?;
    println!("a gigabyte at {addr:#x}");

    // Page faults. A kernel takes the lock of its page table between lookup and entry.
    for page in [0, 1, 700, 200_000] {
        let fault = addr + page * 0x1000 + 0x123;
        let vma = space.lookup(fault).ok_or(Error::NotMapped)?;
        let frame = memory.free.pop().unwrap_or((page % 7 + 1) * 4096);
        if space.still_valid(vma.token()) {
            let leaf = Leaf { addr: fault & !0xfff, frame, size: 4096 };
            table.map(leaf, &vma.attrs())?;
        }
    }
    let phys = table.mapper().translate_addr(VirtAddr::new(addr + 0x1123));
    println!("{:#x} is {phys:x?}", addr + 0x1123);

    // Rights go from every entry there, and nothing else is looked at.
    space.protect(addr, 0x2000, Prot::READ, &mut TableHooks::new(&mut table, &mut memory))?;
    space.unmap(addr, 1 << 30, &mut TableHooks::new(&mut table, &mut memory))?;
    println!("unmapped: {} frames are free, after {} flushes", memory.free.len(), memory.flushes);
    assert_eq!((memory.free.len(), memory.flushes), (4, 2));
    Ok(())
}
