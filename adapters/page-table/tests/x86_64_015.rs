//! Maps beside page tables of the `x86_64` crate, in an array for physical memory.

mod beside;

use kvma::{Attrs, Error, Heap, MapRequest, PageSize, Placement, Prot, VmMap, VmRange};
use kvma_page_table::x86_64_015::{Mapped, USER_SPACE, flags, pages, range};
use kvma_page_table::{Leaf, PageTable, Reach, TableHooks};
use x86_64_015::structures::paging::mapper::TranslateResult;
use x86_64_015::structures::paging::{
    FrameAllocator, OffsetPageTable, PageTable as Table, PageTableFlags, PhysFrame, Size4KiB,
    Translate,
};
use x86_64_015::{PhysAddr, VirtAddr};

use self::beside::{Memory, leaves};

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Frames that are mapped lie behind those of tables, and are never looked into.
const DATA: u64 = 64 * GIB;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Frame([u8; 4096]);

/// Frames for tables.
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

type Offset = OffsetPageTable<'static>;

/// Runs a test with a page table that has so many frames for its tables.
fn with_table(tables: usize, test: impl FnOnce(&mut Mapped<Offset, Supply>, &mut Memory)) {
    let mut ram = vec![Frame([0; 4096]); tables + 1];
    let base = ram.as_mut_ptr();
    // SAFETY: the first frame is a page table without entries, and `base` plus a physical address
    // is where its byte lies. The mapper is gone before the array.
    let mapper =
        unsafe { OffsetPageTable::new(&mut *base.cast::<Table>(), VirtAddr::from_ptr(base)) };
    let supply = Supply { next: tables as u64 + 1 };
    // SAFETY: no processor uses this table.
    let mut table = unsafe { Mapped::new(mapper, supply, Reach::User) };
    test(&mut table, &mut Memory::default());
}

fn leaf(addr: u64, size: u64) -> Leaf {
    Leaf { addr, frame: DATA + addr % (64 * GIB), size }
}

fn rw() -> Attrs {
    Attrs::new(Prot::RW)
}

fn map_at(map: &mut VmMap<(), Heap>, start: u64, len: u64, attrs: Attrs) {
    map.map(MapRequest::new(Placement::Fixed(start), len, attrs), &mut kvma::NoHooks).unwrap();
}

fn new_map() -> VmMap<(), Heap> {
    VmMap::new(USER_SPACE, PageSize::SIZE_4K, Heap).unwrap()
}

#[test]
fn leaves_of_every_size_are_found_and_nothing_else() {
    with_table(64, |table, _| {
        let expected = [
            leaf(0x1000, PAGE),
            leaf(0x3000, PAGE),
            leaf(4 * MIB, 2 * MIB),
            leaf(3 * GIB, GIB),
            leaf(4 * GIB, PAGE),
            leaf(0x7fff_ffff_f000, PAGE),
            leaf(0xffff_8000_0000_0000, 2 * MIB),
            leaf(0xffff_ffff_ffff_f000, PAGE),
        ];
        for leaf in expected {
            table.map(leaf, &rw()).unwrap();
            assert_eq!(table.map(leaf, &rw()), Err(Error::Overlap));
        }
        let all = VmRange::from_bounds(0, u64::MAX, PageSize::SIZE_4K).unwrap();
        let mut found = Vec::new();
        table.each_leaf(all, &mut |_, leaf| found.push(leaf));
        assert_eq!(found, expected);
        assert_eq!(leaves(table, 5 * MIB, PAGE), [leaf(4 * MIB, 2 * MIB)]);
        assert_eq!(leaves(table, 2 * PAGE, PAGE), []);
    });
}

/// A table whose frame has the alignment of a larger leaf is no leaf.
#[test]
fn a_table_at_a_round_address_is_not_taken_for_a_leaf() {
    // 512 frames of tables: one of them lies at 2 MiB in memory that begins at zero.
    with_table(1200, |table, _| {
        for at in 0..1100_u64 {
            let addr = at * 2 * MIB + 5 * PAGE;
            table.map(leaf(addr, PAGE), &rw()).unwrap();
        }
        let found = leaves(table, 0, 1100 * 2 * MIB);
        assert_eq!(found.len(), 1100);
        assert!(found.iter().all(|leaf| leaf.size == PAGE));
    });
}

#[test]
fn numbers_that_no_entry_holds_are_refused() {
    with_table(8, |table, _| {
        let bad = |addr, frame, size| Leaf { addr, frame, size };
        assert_eq!(table.map(bad(0x8000_0000_0000, 0, PAGE), &rw()), Err(Error::OutOfRange));
        assert_eq!(table.map(bad(0, 1 << 60, PAGE), &rw()), Err(Error::OutOfRange));
        assert_eq!(table.map(bad(0, PAGE, 2 * MIB), &rw()), Err(Error::Unaligned));
        assert_eq!(table.map(bad(0, 0, 3 * PAGE), &rw()), Err(Error::Unaligned));
        for at in 0.. {
            match table.map(leaf(at * GIB, PAGE), &rw()) {
                Ok(()) => assert!(at < 8),
                Err(error) => return assert_eq!(error, Error::OutOfMemory),
            }
        }
    });
}

#[test]
fn a_page_without_rights_keeps_its_frame() {
    with_table(16, |table, memory| {
        let mut map = new_map();
        map_at(&mut map, 0x1000, 0x4000, rw());
        table.map(leaf(0x2000, PAGE), &rw()).unwrap();
        map.protect(0x1000, 0x4000, Prot::NONE, &mut TableHooks::new(table, memory)).unwrap();
        let hidden = table.mapper().translate(VirtAddr::new(0x2000));
        let TranslateResult::Mapped { flags: found, .. } = hidden else { panic!() };
        assert!(!found.contains(PageTableFlags::PRESENT));
        map.protect(0x1000, 0x4000, Prot::READ, &mut TableHooks::new(table, memory)).unwrap();
        let shown = table.mapper().translate(VirtAddr::new(0x2000));
        let TranslateResult::Mapped { frame, flags: found, .. } = shown else { panic!() };
        assert_eq!(frame.start_address().as_u64(), leaf(0x2000, PAGE).frame);
        assert_eq!(found, flags(&Attrs::new(Prot::READ), Reach::User));
        map.protect(0x1000, 0x4000, Prot::NONE, &mut TableHooks::new(table, memory)).unwrap();
        map.unmap(0x1000, 0x4000, &mut TableHooks::new(table, memory)).unwrap();
        assert_eq!(memory.free, [leaf(0x2000, PAGE).frame]);
        assert_eq!(leaves(table, 0, GIB), []);
    });
}

#[test]
fn a_huge_page_without_rights_is_for_the_kernel_alone() {
    with_table(16, |table, memory| {
        let mut map = new_map();
        map_at(&mut map, 2 * MIB, 2 * MIB, rw());
        table.map(leaf(2 * MIB, 2 * MIB), &rw()).unwrap();
        map.protect(2 * MIB, 2 * MIB, Prot::NONE, &mut TableHooks::new(table, memory)).unwrap();
        let TranslateResult::Mapped { flags, .. } =
            table.mapper().translate(VirtAddr::new(2 * MIB))
        else {
            panic!()
        };
        let rights = PageTableFlags::USER_ACCESSIBLE | PageTableFlags::WRITABLE;
        assert!(!flags.intersects(rights));
        map.clear(&mut TableHooks::new(table, memory)).unwrap();
        assert_eq!((memory.free.len(), leaves(table, 0, GIB).len()), (1, 0));
    });
}

#[test]
fn larger_leaves_stay_whole() {
    with_table(16, |table, _| beside::larger_leaves_stay_whole(table));
}

#[test]
fn a_move_without_memory_for_tables_is_refused() {
    with_table(3, |table, _| beside::a_move_without_memory_for_tables_is_refused(table));
}

#[test]
fn random_changes_leave_the_entries_that_there_ought_to_be() {
    let shown = |table: &Mapped<Offset, Supply>, addr| match table
        .mapper()
        .translate(VirtAddr::new(addr))
    {
        TranslateResult::Mapped { flags, .. } => flags,
        _ => flags(&Attrs::new(Prot::NONE), Reach::User),
    };
    let wanted = |attrs: &Attrs| flags(attrs, Reach::User);
    with_table(64, |table, _| beside::random_changes(table, shown, wanted));
}

#[test]
fn ranges_and_pages_are_the_same_bytes() {
    let all = VmRange::new(0x4000, 0x3000, PageSize::SIZE_4K).unwrap();
    assert_eq!(range(pages(all).unwrap()), Ok(all));
    let top = VmRange::from_bounds(u64::MAX - 0x1fff, u64::MAX, PageSize::SIZE_4K).unwrap();
    assert_eq!(range(pages(top).unwrap()), Ok(top));
    let hole = VmRange::new(0x8000_0000_0000, 0x1000, PageSize::SIZE_4K).unwrap();
    assert_eq!(pages(hole), None);
    let halves = VmRange::from_bounds(0, u64::MAX, PageSize::SIZE_4K).unwrap();
    assert_eq!(pages(halves), None);
    let mut backwards = pages(all).unwrap();
    std::mem::swap(&mut backwards.start, &mut backwards.end);
    assert_eq!(range(backwards), Err(Error::ZeroLength));
}

#[test]
fn the_mapper_comes_back() {
    with_table(4, |table, _| {
        table.map(leaf(PAGE, PAGE), &rw()).unwrap();
        assert!(format!("{table:?}").contains("User"));
        assert!(table.mapper().translate_addr(VirtAddr::new(PAGE)).is_some());
    });
}
