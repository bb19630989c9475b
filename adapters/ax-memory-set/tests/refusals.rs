//! Backends that refuse, or refuse to be undone: what the answer says is so.

use ax_memory_addr::VirtAddr;
use kvma_ax_memory_set::{MappingBackend, MappingError, MemoryArea, MemorySet};

const PAGE: usize = 0x1000;

/// A page table that notes the calls to it by name, and refuses some.
#[derive(Default)]
struct Table {
    calls: Vec<String>,
    refused: Vec<usize>,
    /// `validate_*` says no as well.
    is_known: bool,
}

impl Table {
    fn call(&mut self, what: &str, start: VirtAddr, size: usize) -> bool {
        let is_fine = !self.refused.contains(&self.calls.len());
        self.calls.push(format!("{what} {:x}+{:x}", start.as_usize() / PAGE, size / PAGE));
        is_fine
    }
}

/// Bytes of an object: the offset of the area's start, and how many there are.
#[derive(Clone, Debug, PartialEq)]
struct Backend {
    offset: usize,
    len: usize,
}

impl MappingBackend for Backend {
    type Addr = VirtAddr;
    type Flags = u8;
    type MutationContext = ();
    type PageTable = Table;

    fn map(&self, start: VirtAddr, size: usize, _: u8, (): &mut (), table: &mut Table) -> bool {
        table.call("map", start, size)
    }

    fn validate_map(&self, _: VirtAddr, _: usize, _: u8, table: &Table) -> bool {
        !table.is_known
    }

    fn unmap(&self, start: VirtAddr, size: usize, (): &mut (), table: &mut Table) -> bool {
        table.call("unmap", start, size)
    }

    fn validate_unmap(&self, _: VirtAddr, _: usize, table: &Table) -> bool {
        !table.is_known
    }

    fn validate_protect(&self, _: VirtAddr, _: usize, _: u8, table: &Table) -> bool {
        !table.is_known
    }

    fn protect(
        &self,
        start: VirtAddr,
        size: usize,
        new_flags: u8,
        (): &mut (),
        table: &mut Table,
    ) -> bool {
        table.call(&format!("protect {new_flags}"), start, size)
    }

    fn split(&mut self, at: usize) -> Option<Self> {
        let right = Self { offset: self.offset + at, len: self.len - at };
        self.len = at;
        Some(right)
    }

    fn shrink_left(&mut self, size: usize) -> bool {
        self.offset += size;
        self.len -= size;
        true
    }

    fn shrink_right(&mut self, size: usize) -> bool {
        self.len -= size;
        true
    }
}

type Set = MemorySet<Backend>;

fn area(page: usize, count: usize) -> MemoryArea<Backend> {
    let size = count * PAGE;
    MemoryArea::new((page * PAGE).into(), size, 1, Backend { offset: 0x10_0000, len: size })
}

/// Areas of four pages from 0, 8 and 16 on.
fn three_areas() -> (Set, Table) {
    let (mut set, mut table) = (Set::new(), Table::default());
    for page in [0, 8, 16] {
        set.map(area(page, 4), &mut (), &mut table, false).unwrap();
    }
    table.calls.clear();
    (set, table)
}

/// Checks that every area's backend speaks of the area's bytes.
fn check(set: &Set) {
    for area in set.iter() {
        assert_eq!(area.backend().len, area.size(), "{area:?}");
    }
}

#[test]
fn backends_are_split_and_shrunk_with_their_areas() {
    let (mut set, mut table) = three_areas();
    set.unmap((9 * PAGE).into(), PAGE, &mut (), &mut table).unwrap();
    set.unmap((3 * PAGE).into(), 2 * PAGE, &mut (), &mut table).unwrap();
    set.unmap((15 * PAGE).into(), 2 * PAGE, &mut (), &mut table).unwrap();
    set.protect((18 * PAGE).into(), PAGE, |_| Some(3), &mut (), &mut table).unwrap();
    check(&set);
    let offsets: Vec<_> = set.iter().map(|area| (area.backend().offset >> 12) - 0x100).collect();
    assert_eq!(offsets, [0, 0, 2, 1, 2, 3]);
    assert_eq!(table.calls, ["unmap 9+1", "unmap 3+1", "unmap 10+1", "protect 3 12+1"]);
}

#[test]
fn a_replacement_that_is_refused_maps_again_what_was_there() {
    let (mut set, mut table) = three_areas();
    table.refused = vec![2];
    let result = set.map(area(2, 8), &mut (), &mut table, true);
    assert_eq!(result, Err(MappingError::BadState));
    assert_eq!(
        table.calls,
        ["unmap 2+2", "unmap 8+2", "map 2+8", "unmap 2+8", "map 2+2", "map 8+2"]
    );
    assert_eq!(set.len(), 3);
    check(&set);
    // And if one of those is refused, the answer says so.
    let (mut set, mut table) = three_areas();
    table.refused = vec![2, 4];
    let result = set.map(area(2, 8), &mut (), &mut table, true);
    assert_eq!(result, Err(MappingError::NeedsRepair));
    assert_eq!(set.len(), 3);
}

#[test]
fn clearing_that_stops_half_way_needs_repair() {
    for (refused, expected) in [(0, MappingError::BadState), (1, MappingError::NeedsRepair)] {
        let (mut set, mut table) = three_areas();
        table.refused = vec![refused];
        assert_eq!(set.clear(&mut (), &mut table), Err(expected));
        assert_eq!(set.len(), 3);
        set.clear(&mut (), &mut table).unwrap();
        assert!(set.is_empty());
    }
}

#[test]
fn a_protect_that_cannot_be_undone_needs_repair() {
    let (mut set, mut table) = three_areas();
    table.refused = vec![1, 3];
    let result = set.protect(0.into(), 12 * PAGE, |_| Some(3), &mut (), &mut table);
    assert_eq!(result, Err(MappingError::NeedsRepair));
    let calls = ["protect 3 0+4", "protect 3 8+4", "protect 1 8+4", "protect 1 0+4"];
    assert_eq!(table.calls, calls);
    assert!(set.iter().all(|area| area.flags() == 1));
}

#[test]
fn who_says_beforehand_that_he_would_refuse_is_never_called() {
    let (mut set, mut table) = three_areas();
    table.is_known = true;
    let at = |page: usize| VirtAddr::from(page * PAGE);
    let bad = Err(MappingError::BadState);
    assert_eq!(set.map(area(4, 1), &mut (), &mut table, false), bad);
    assert_eq!(set.map(area(2, 8), &mut (), &mut table, true), bad);
    assert_eq!(set.unmap(at(2), 8 * PAGE, &mut (), &mut table), bad);
    assert_eq!(set.clear(&mut (), &mut table), bad);
    assert_eq!(set.protect(at(2), PAGE, |_| Some(3), &mut (), &mut table), bad);
    assert_eq!(set.extend_area(at(2), PAGE, &mut (), &mut table), bad);
    assert!(table.calls.is_empty() && set.len() == 3);
    // Where nothing changes, nobody is asked.
    set.protect(at(2), PAGE, |_| None, &mut (), &mut table).unwrap();
}

#[test]
fn an_area_grows_and_shrinks_at_its_end() {
    let (mut set, mut table) = three_areas();
    let at = |page: usize| VirtAddr::from(page * PAGE);
    set.extend_area(at(1), 2 * PAGE, &mut (), &mut table).unwrap();
    assert_eq!((set.len(), set.find(at(5)).unwrap().size()), (3, 6 * PAGE));
    let overlap = set.extend_area(at(1), 3 * PAGE, &mut (), &mut table);
    assert_eq!(overlap, Err(MappingError::AlreadyExists));
    assert_eq!(set.extend_area(at(1), 1, &mut (), &mut table), Err(MappingError::InvalidParam));
    // To the next area, with which it does not merge.
    set.extend_area(at(1), 2 * PAGE, &mut (), &mut table).unwrap();
    assert_eq!((set.len(), set.find(at(7)).unwrap().size()), (3, 8 * PAGE));
    table.calls.clear();
    table.refused = vec![0];
    let refused = set.rollback_extend_area(at(1), 4 * PAGE, &mut (), &mut table);
    assert_eq!(refused, Err(MappingError::NeedsRepair));
    set.rollback_extend_area(at(1), 4 * PAGE, &mut (), &mut table).unwrap();
    assert_eq!(set.find(at(1)).unwrap().size(), 4 * PAGE);
    let all = set.rollback_extend_area(at(1), 4 * PAGE, &mut (), &mut table);
    assert_eq!(all, Err(MappingError::InvalidParam));
}

#[test]
fn a_copy_is_gone_back_to() {
    let (mut set, mut table) = three_areas();
    let before = set.clone();
    set.clear(&mut (), &mut table).unwrap();
    set.restore_metadata_preimage(before);
    assert_eq!(set.len(), 3);
    let exact = set.unmap_exact((8 * PAGE).into(), 4 * PAGE, &mut (), &mut table).unwrap();
    assert_eq!((exact.start(), set.len()), ((8 * PAGE).into(), 2));
    let part = set.unmap_exact(0.into(), PAGE, &mut (), &mut table);
    assert_eq!(part.err(), Some(MappingError::InvalidParam));
}
