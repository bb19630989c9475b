//! A map with a page table beside it, held against a list of what ought to be in the table.

use std::collections::BTreeMap;

use kvma::vm_map::SourceRange;
use kvma::{Attrs, Error, Heap, MapRequest, Merge, PageSize, Placement, Prot, VmMap, VmRange};
use kvma_page_table::{Frames, Leaf, PageTable, TableHooks};
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
/// The pages of the test lie in so many stretches of eight pages, a gigabyte apart.
const STRETCHES: u64 = 3;
const STRETCH: u64 = 1 << 30;

/// Frames that were mapped, and are not free yet.
#[derive(Default)]
pub struct Memory {
    /// Removed since the last flush.
    pub removed: Vec<u64>,
    pub free: Vec<u64>,
    pub flushes: u32,
}

impl Frames for Memory {
    fn removed(&mut self, leaf: Leaf) {
        self.removed.push(leaf.frame);
    }

    fn flush_begin(&mut self) {
        self.flushes += 1;
    }

    fn flush_wait(&mut self) {
        self.free.append(&mut self.removed);
    }
}

/// Returns the leaves that share a byte with a range.
pub fn leaves<T: PageTable>(table: &mut T, start: u64, len: u64) -> Vec<Leaf> {
    let mut found = Vec::new();
    let range = VmRange::new(start, len, PageSize::SIZE_4K).unwrap();
    table.each_leaf(range, &mut |_, leaf| found.push(leaf));
    found
}

/// Returns a random page of the stretches.
fn page(random: &mut Random) -> u64 {
    random.below(STRETCHES) * STRETCH + (1 + random.below(8)) * PAGE
}

/// Makes random changes and faults, and checks the table after each. `shown` says what an entry
/// allows, in words of the table's crate.
pub fn random_changes<T: PageTable, R: PartialEq + std::fmt::Debug>(
    table: &mut T,
    shown: impl Fn(&T, u64) -> R,
    wanted: impl Fn(&Attrs) -> R,
) {
    let mut map = VmMap::<(), _>::new(0..=8 * STRETCH - 1, PageSize::SIZE_4K, Heap).unwrap();
    let mut memory = Memory::default();
    let mut entries: BTreeMap<u64, u64> = BTreeMap::new();
    let mut random = Random::new(7);
    let (mut next_frame, mut moved) = (1 << 30, 0);
    for _ in 0..3_000 {
        let start = page(&mut random);
        let len = (1 + random.below(4)) * PAGE;
        let prot = random.pick(&[Prot::RW, Prot::READ, Prot::RX, Prot::NONE]);
        match random.below(8) {
            0 | 1 => {
                let request = MapRequest::new(Placement::Fixed(start), len, Attrs::new(prot));
                map.map(request, &mut TableHooks::new(table, &mut memory)).unwrap();
                entries.retain(|addr, _| !(start..start + len).contains(addr));
            }
            2 => {
                map.unmap(start, len, &mut TableHooks::new(table, &mut memory)).unwrap();
                entries.retain(|addr, _| !(start..start + len).contains(addr));
            }
            3 => {
                let _ = map.protect(start, len, prot, &mut TableHooks::new(table, &mut memory));
            }
            4 => {
                let to = page(&mut random) + random.below(2) * 3 * STRETCH;
                let mut hooks = TableHooks::new(table, &mut memory);
                let result =
                    map.relocate(start, len, to, SourceRange::Unmap, Merge::Both, &mut hooks);
                if result.is_ok() {
                    let old: Vec<_> =
                        entries.range(start..start + len).map(|(&addr, _)| addr).collect();
                    moved += old.len();
                    for addr in old {
                        let frame = entries.remove(&addr).unwrap();
                        entries.insert(addr - start + to, frame);
                    }
                }
            }
            // A page fault.
            _ => {
                if let Some(vma) = map.find(start)
                    && !entries.contains_key(&start)
                {
                    let leaf = Leaf { addr: start, frame: next_frame, size: PAGE };
                    table.map(leaf, &vma.attrs()).unwrap();
                    entries.insert(start, next_frame);
                    next_frame += PAGE;
                }
            }
        }
        let found = (0..2 * STRETCHES).flat_map(|at| leaves(table, at * STRETCH, 16 * PAGE));
        let found: Vec<_> = found.map(|leaf| (leaf.addr, leaf.frame)).collect();
        let expected: Vec<_> = entries.iter().map(|(&addr, &frame)| (addr, frame)).collect();
        assert_eq!(found, expected);
        for &addr in entries.keys() {
            let vma = map.find(addr).expect("an entry lies in a VMA");
            assert_eq!(shown(table, addr), wanted(&vma.attrs()), "{addr:#x}");
        }
        assert!(memory.removed.is_empty(), "frames are freed when the flush has ended");
    }
    map.clear(&mut TableHooks::new(table, &mut memory)).unwrap();
    assert!(leaves(table, 0, 8 * STRETCH).is_empty());
    // Every frame came back, and none twice.
    memory.free.sort_unstable();
    let all: Vec<_> = (1 << 30..next_frame).step_by(PAGE as usize).collect();
    assert_eq!(memory.free, all);
    assert!(moved > 15 && memory.flushes > 500, "{moved} moved, {} flushes", memory.flushes);
}

/// A map with a leaf of 2 MiB at 2 MiB, in the middle of 6 MiB.
fn with_large_leaf<T: PageTable>(table: &mut T) -> VmMap<(), Heap> {
    let mut map = VmMap::<(), _>::new(0..=STRETCH - 1, PageSize::SIZE_4K, Heap).unwrap();
    let request = MapRequest::new(Placement::Fixed(0), 6 * MIB, Attrs::new(Prot::RW));
    map.map(request, &mut kvma::NoHooks).unwrap();
    let leaf = Leaf { addr: 2 * MIB, frame: 4 * MIB, size: 2 * MIB };
    table.map(leaf, &Attrs::new(Prot::RW)).unwrap();
    map
}

/// An operation that ends within a larger leaf is refused, and nothing has changed.
pub fn larger_leaves_stay_whole<T: PageTable>(table: &mut T) {
    let mut map = with_large_leaf(table);
    let mut memory = Memory::default();
    let before = leaves(table, 0, 6 * MIB);
    let mut hooks = TableHooks::new(table, &mut memory);
    assert_eq!(map.unmap(3 * MIB, 2 * MIB, &mut hooks), Err(Error::SplitRefused));
    assert_eq!(map.unmap(MIB, 2 * MIB, &mut hooks), Err(Error::SplitRefused));
    assert_eq!(map.unmap(3 * MIB, PAGE, &mut hooks), Err(Error::SplitRefused));
    assert_eq!(map.protect(2 * MIB, PAGE, Prot::READ, &mut hooks), Err(Error::SplitRefused));
    let moved = map.relocate(3 * MIB, MIB, 9 * MIB, SourceRange::Unmap, Merge::Both, &mut hooks);
    assert_eq!(moved, Err(Error::SplitRefused));
    let odd = map.relocate(2 * MIB, 2 * MIB, 9 * MIB, SourceRange::Unmap, Merge::Both, &mut hooks);
    assert_eq!(odd, Err(Error::Unaligned));
    assert_eq!((map.len(), leaves(table, 0, 6 * MIB)), (1, before));
    // Around it, everything may end.
    let mut hooks = TableHooks::new(table, &mut memory);
    map.unmap(4 * MIB, PAGE, &mut hooks).unwrap();
    map.protect(2 * MIB - PAGE, PAGE, Prot::READ, &mut hooks).unwrap();
    map.relocate(2 * MIB, 2 * MIB, 16 * MIB, SourceRange::Unmap, Merge::Both, &mut hooks).unwrap();
    let moved = Leaf { addr: 16 * MIB, frame: 4 * MIB, size: 2 * MIB };
    assert_eq!(leaves(table, 0, 32 * MIB), [moved]);
    map.protect(16 * MIB, 2 * MIB, Prot::NONE, &mut TableHooks::new(table, &mut memory)).unwrap();
    map.clear(&mut TableHooks::new(table, &mut memory)).unwrap();
    assert_eq!((memory.free, leaves(table, 0, 32 * MIB).len()), (vec![4 * MIB], 0));
}

/// A move needs tables, for which there may be no memory: then it is refused. `table` has
/// frames for one gigabyte alone.
pub fn a_move_without_memory_for_tables_is_refused<T: PageTable>(table: &mut T) {
    let mut map = VmMap::<(), _>::new(0..=8 * STRETCH - 1, PageSize::SIZE_4K, Heap).unwrap();
    let mut memory = Memory::default();
    let attrs = Attrs::new(Prot::RW);
    map.map(MapRequest::new(Placement::Fixed(0), 4 * PAGE, attrs), &mut kvma::NoHooks).unwrap();
    let leaf = Leaf { addr: PAGE, frame: MIB, size: PAGE };
    table.map(leaf, &attrs).unwrap();
    let mut hooks = TableHooks::new(table, &mut memory);
    let to = 5 * STRETCH;
    let moved = map.relocate(0, 4 * PAGE, to, SourceRange::Unmap, Merge::Both, &mut hooks);
    assert_eq!(moved, Err(Error::OutOfMemory));
    assert_eq!((leaves(table, 0, 8 * STRETCH), map.len()), (vec![leaf], 1));
    assert!(map.find(to).is_none() && map.covers(0, 4 * PAGE));
}
