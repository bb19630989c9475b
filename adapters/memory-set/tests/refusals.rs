//! Backends that refuse: the answer is an error, and areas and page table are as they were. In
//! memory_set 0.4.1, each of these loses areas, panics, or says that all is well.

use kvma_memory_set::{MappingBackend, MappingError, MemoryArea, MemorySet};
use kvma_test_support::Random;
use memory_addr::{VirtAddr, va_range};

const PAGE: usize = 0x1000;
const PAGES: usize = 24;

/// The flags of each page, 0 where nothing is mapped.
#[derive(Clone, Debug, PartialEq)]
struct Table {
    pages: [u8; PAGES],
    /// The number of the call that is refused.
    refused: Option<usize>,
    calls: usize,
}

impl Table {
    fn new() -> Self {
        Self { pages: [0; PAGES], refused: None, calls: 0 }
    }

    /// Fills a range, or half of it and refuses.
    fn fill(&mut self, start: VirtAddr, size: usize, flags: u8) -> bool {
        let first = start.as_usize() / PAGE;
        let count = size / PAGE;
        let is_refused = self.refused == Some(self.calls);
        self.calls += 1;
        let count = if is_refused { count / 2 } else { count };
        self.pages[first..first + count].fill(flags);
        !is_refused
    }
}

#[derive(Clone, Debug)]
struct Backend;

impl MappingBackend for Backend {
    type Addr = VirtAddr;
    type Flags = u8;
    type PageTable = Table;

    fn map(&self, start: VirtAddr, size: usize, flags: u8, table: &mut Table) -> bool {
        table.fill(start, size, flags)
    }

    fn unmap(&self, start: VirtAddr, size: usize, table: &mut Table) -> bool {
        // All or nothing: who refuses to be unmapped has to stay.
        let is_refused = table.refused == Some(table.calls);
        table.fill(start, if is_refused { 0 } else { size }, 0)
    }

    fn protect(&self, start: VirtAddr, size: usize, new_flags: u8, table: &mut Table) -> bool {
        table.fill(start, size, new_flags)
    }
}

type Set = MemorySet<Backend>;

fn area(page: usize, count: usize, flags: u8) -> MemoryArea<Backend> {
    MemoryArea::new((page * PAGE).into(), count * PAGE, flags, Backend)
}

/// Three areas of four pages, with gaps of four between them.
fn three_areas() -> (Set, Table) {
    let (mut set, mut table) = (Set::new(), Table::new());
    for page in [0, 8, 16] {
        set.map(area(page, 4, 1), &mut table, false).unwrap();
    }
    table.calls = 0;
    (set, table)
}

fn ranges(set: &Set) -> Vec<(usize, usize, u8)> {
    set.iter().map(|area| (area.start().as_usize(), area.size(), area.flags())).collect()
}

/// Refuses each call of a backend in turn, and returns how many there are.
fn refuse_each(call: impl Fn(&mut Set, &mut Table) -> Result<(), MappingError>) -> usize {
    for refused in 0.. {
        let (mut set, mut table) = three_areas();
        let (before, pages) = (ranges(&set), table.pages);
        table.refused = Some(refused);
        let result = call(&mut set, &mut table);
        if table.calls <= refused {
            result.unwrap();
            return refused;
        }
        assert_eq!(result, Err(MappingError::BadState), "call {refused}");
        assert_eq!(ranges(&set), before, "call {refused}");
        assert_eq!(table.pages, pages, "call {refused}");
        // Nothing is left of it.
        table.refused = None;
        call(&mut set, &mut table).unwrap();
    }
    unreachable!()
}

#[test]
fn a_replacement_that_is_refused_leaves_what_was_there() {
    let calls = refuse_each(|set, table| set.map(area(2, 16, 7), table, true));
    assert_eq!(calls, 4, "three areas are unmapped, one is mapped");
}

#[test]
fn an_unmap_that_is_refused_is_an_error_and_loses_nothing() {
    assert_eq!(refuse_each(|set, table| set.unmap((2 * PAGE).into(), 16 * PAGE, table)), 3);
    assert_eq!(refuse_each(|set, table| set.unmap((9 * PAGE).into(), PAGE, table)), 1);
    assert_eq!(refuse_each(|set, table| set.clear(table)), 3);
}

#[test]
fn a_protect_that_is_refused_is_an_error() {
    let protect = |set: &mut Set, table: &mut Table| {
        set.protect((2 * PAGE).into(), 16 * PAGE, |flags| Some(flags | 2), table)
    };
    assert_eq!(refuse_each(protect), 3);
}

#[test]
fn a_search_stays_in_its_limit() {
    let (set, _) = three_areas();
    let find = |size, limit, align| set.find_free_area(0.into(), size, limit, align);
    // There is a gap from 0x4000 on; memory_set takes one beyond the limit if it comes to one.
    assert_eq!(find(2 * PAGE, va_range!(0x0..0x5000), PAGE), None);
    assert_eq!(find(PAGE, va_range!(0x0..0x5000), PAGE), Some(0x4000.into()));
    assert_eq!(find(0, va_range!(0x0..0x5000), PAGE), None);
    assert_eq!(find(PAGE, va_range!(0x0..0x5000), 0), None);
    assert_eq!(find(3 * PAGE, va_range!(0x0..0x9000), 3 * PAGE), None);
    let empty = Set::new();
    let all = va_range!(0x1..usize::MAX);
    assert_eq!(empty.find_free_area(5.into(), PAGE, all, PAGE), Some(PAGE.into()));
    assert_eq!(empty.find_free_area(usize::MAX.into(), PAGE, all, PAGE), None);
}

#[test]
fn protecting_nothing_splits_nothing() {
    let (mut set, mut table) = three_areas();
    set.protect(PAGE.into(), 0, |_| Some(7), &mut table).unwrap();
    assert_eq!((set.len(), table.calls), (3, 0));
    let wraps = set.protect(PAGE.into(), usize::MAX, |_| Some(7), &mut table);
    assert_eq!(wraps, Err(MappingError::InvalidParam));
}

/// Whoever maps at the top of the address space gets an answer.
#[test]
fn the_last_addresses_can_be_used() {
    #[derive(Clone)]
    struct Nothing;

    impl MappingBackend for Nothing {
        type Addr = VirtAddr;
        type Flags = u8;
        type PageTable = ();

        fn map(&self, _: VirtAddr, _: usize, _: u8, (): &mut ()) -> bool {
            true
        }

        fn unmap(&self, _: VirtAddr, _: usize, (): &mut ()) -> bool {
            true
        }

        fn protect(&self, _: VirtAddr, _: usize, _: u8, (): &mut ()) -> bool {
            true
        }
    }

    let mut set = MemorySet::new();
    let top = MemoryArea::new((usize::MAX - 3).into(), 3, 1, Nothing);
    set.map(top, &mut (), false).unwrap();
    assert!(set.find((usize::MAX - 1).into()).is_some() && set.find(usize::MAX.into()).is_none());
    assert!(!set.overlaps(va_range!(0x0..usize::MAX - 3)));
    set.protect(0.into(), usize::MAX, |_| Some(2), &mut ()).unwrap();
    set.unmap((usize::MAX - 2).into(), 1, &mut ()).unwrap();
    assert_eq!(
        set.iter().map(|area| (area.size(), area.flags())).collect::<Vec<_>>(),
        [(1, 2), (1, 2),]
    );
    set.unmap(0.into(), usize::MAX, &mut ()).unwrap();
    assert!(set.is_empty());
}

#[test]
fn a_set_can_stand_in_a_static_and_go_to_another_thread() {
    static SET: std::sync::Mutex<Set> = std::sync::Mutex::new(Set::new());
    std::thread::spawn(|| {
        let mut table = Table::new();
        SET.lock().unwrap().map(area(3, 1, 1), &mut table, false).unwrap();
    })
    .join()
    .unwrap();
    assert!(SET.lock().unwrap().find((3 * PAGE).into()).is_some());
}

/// After random calls, some of them refused, the set says what the page table holds.
#[test]
fn set_and_page_table_agree_after_random_refusals() {
    let mut refused = 0;
    for seed in 0..8 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let (mut set, mut table) = (Set::new(), Table::new());
        for _ in 0..400 {
            let page = random.below(PAGES as u64 - 1) as usize;
            let count = 1 + random.below((PAGES - page) as u64 - 1) as usize;
            let flags = 1 + random.below(3) as u8;
            table.calls = 0;
            table.refused = (random.below(3) == 0).then(|| random.below(4) as usize);
            let before = (ranges(&set), table.pages);
            let (start, size) = (VirtAddr::from(page * PAGE), count * PAGE);
            let result = match random.below(4) {
                0 => set.map(area(page, count, flags), &mut table, true),
                1 => set.map(area(page, count, flags), &mut table, false),
                2 => set.unmap(start, size, &mut table),
                _ => set.protect(start, size, |old| (old != flags).then_some(flags), &mut table),
            };
            if result.is_err() {
                refused += usize::from(result == Err(MappingError::BadState));
                assert_eq!((ranges(&set), table.pages), before);
            }
            let mut expected = [0; PAGES];
            for area in set.iter() {
                let pages = area.start().as_usize() / PAGE..area.end().as_usize() / PAGE;
                expected[pages].fill(area.flags());
            }
            assert_eq!(table.pages, expected);
        }
    }
    assert!(refused > 200, "{refused}");
}
