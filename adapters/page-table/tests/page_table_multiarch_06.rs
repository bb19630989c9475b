//! Maps beside page tables of the `page_table_multiarch` crate, with the entries of x86-64.

#![cfg(target_arch = "x86_64")]

mod beside;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;

use kvma::{Attrs, Error, PageSize, Prot, VmRange};
use kvma_page_table::page_table_multiarch_06::{Multiarch, flags};
use kvma_page_table::{Leaf, PageTable, Reach};
use memory_addr::{PhysAddr, VirtAddr};
use page_table_entry::x86_64::X64PTE;
use page_table_multiarch_06::{MappingFlags, PageTable64, PagingHandler, PagingMetaData};

use self::beside::leaves;

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Stands in for `X64PagingMetaData`, whose flush only a kernel may make.
struct Meta;

impl PagingMetaData for Meta {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 52;
    const VA_MAX_BITS: usize = 48;

    type VirtAddr = VirtAddr;

    fn flush_tlb(_: Option<VirtAddr>) {}
}

thread_local! {
    /// How many tables there is memory for.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

const FRAME: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

/// Tables are blocks of the heap, at whose addresses they are "physical".
struct Handler;

impl PagingHandler for Handler {
    fn alloc_frames(count: usize, _align: usize) -> Option<PhysAddr> {
        assert_eq!(count, 1);
        LEFT.set(LEFT.get().checked_sub(1)?);
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc_zeroed(FRAME) };
        Some(PhysAddr::from_usize(block.expose_provenance()))
    }

    fn dealloc_frames(frame: PhysAddr, count: usize) {
        assert_eq!(count, 1);
        // SAFETY: it was allocated above, and is a table no more.
        unsafe { dealloc(std::ptr::with_exposed_provenance_mut(frame.as_usize()), FRAME) };
    }

    fn phys_to_virt(frame: PhysAddr) -> VirtAddr {
        VirtAddr::from_usize(frame.as_usize())
    }
}

type Table = PageTable64<Meta, X64PTE, Handler>;

fn with_table(tables: usize, test: impl FnOnce(&mut Multiarch<'_, Meta, X64PTE, Handler>)) {
    LEFT.set(tables + 1);
    let mut table = Table::try_new().unwrap();
    test(&mut Multiarch::new(&mut table, Reach::User));
}

fn leaf(addr: u64, size: u64) -> Leaf {
    Leaf { addr, frame: 64 * GIB + addr % (64 * GIB), size }
}

fn rw() -> Attrs {
    Attrs::new(Prot::RW)
}

#[test]
fn leaves_of_every_size_are_found_and_nothing_else() {
    with_table(64, |table| {
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
        assert_eq!(leaves(table, MIB, 4 * MIB), [leaf(4 * MIB, 2 * MIB)]);
        assert_eq!(leaves(table, 2 * PAGE, PAGE), []);
        // The last byte of all is in a few pages, too.
        assert_eq!(leaves(table, u64::MAX - 0xfff, PAGE).len(), 1);
    });
}

/// More leaves than one walk finds, and some of them removed on the way.
#[test]
fn a_long_range_is_walked_in_parts() {
    with_table(64, |table| {
        let addrs: Vec<_> = (0..200).map(|at| at * 11 * PAGE).collect();
        for &addr in &addrs {
            table.map(leaf(addr, PAGE), &rw()).unwrap();
        }
        let found = leaves(table, 0, 8 * MIB + 4 * MIB);
        assert_eq!(found.iter().map(|leaf| leaf.addr).collect::<Vec<_>>(), addrs);
        let range = VmRange::new(50 * 11 * PAGE, 3000 * PAGE, PageSize::SIZE_4K).unwrap();
        table.each_leaf(range, &mut |table, leaf| table.unmap(leaf));
        assert_eq!(leaves(table, 0, GIB).len(), 50);
    });
}

#[test]
fn numbers_that_no_entry_holds_are_refused() {
    with_table(3, |table| {
        let bad = |addr, frame, size| Leaf { addr, frame, size };
        assert_eq!(table.map(bad(0x8000_0000_0000, 0, PAGE), &rw()), Err(Error::OutOfRange));
        assert_eq!(table.map(bad(0, 1 << 60, PAGE), &rw()), Err(Error::OutOfRange));
        assert_eq!(table.map(bad(0, PAGE, 2 * MIB), &rw()), Err(Error::Unaligned));
        assert_eq!(table.map(bad(0, 0, 3 * PAGE), &rw()), Err(Error::Unaligned));
        table.map(leaf(0, PAGE), &rw()).unwrap();
        assert_eq!(table.map(leaf(5 * GIB, PAGE), &rw()), Err(Error::OutOfMemory));
    });
}

#[test]
fn larger_leaves_stay_whole() {
    with_table(16, |table| beside::larger_leaves_stay_whole(table));
}

#[test]
fn a_move_without_memory_for_tables_is_refused() {
    with_table(3, |table| beside::a_move_without_memory_for_tables_is_refused(table));
}

#[test]
fn random_changes_leave_the_entries_that_there_ought_to_be() {
    let shown = |table: &Multiarch<'_, Meta, X64PTE, Handler>, addr| -> MappingFlags {
        table.query(addr).expect("an entry")
    };
    let wanted = |attrs: &Attrs| flags(attrs, Reach::User);
    with_table(64, |table| beside::random_changes(table, shown, wanted));
}
