//! The address space over a page table that can run out of memory, and against an array of pages.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use kvma::guest::LeafSizes;
use kvma::{Error, HookError, Prot};
use kvma_axaddrspace::{AddrSpace, AxError, Entry, NestedTable, NoMemory, Populate};
use kvma_test_support::Random;

const PAGE: u64 = 0x1000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The first address of the frames, behind everything that is mapped linearly.
const FRAMES: u64 = 1 << 50;

/// A page table in a map. Splits and frames are counted against what there is.
#[derive(Debug, Default)]
struct Memory {
    leaves: BTreeMap<u64, Entry>,
    taken: BTreeSet<u64>,
    free: Vec<u64>,
    /// Unmapped since the last flush.
    stale: BTreeSet<u64>,
    /// Frames, leaves and splits that there is memory for; `None` for all.
    left: Option<u64>,
}

impl Memory {
    fn take(&mut self) -> Result<(), NoMemory> {
        match &mut self.left {
            Some(0) => Err(NoMemory),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Table(Rc<RefCell<Memory>>);

impl NestedTable for Table {
    fn sizes(&self) -> LeafSizes {
        LeafSizes::SIZE_4K_2M_1G
    }

    fn map(&mut self, entry: Entry) -> Result<(), NoMemory> {
        assert_eq!((entry.gpa | entry.hpa) % entry.size, 0);
        assert_eq!(self.query(entry.gpa), None);
        assert_eq!(self.query(entry.gpa + entry.size - 1), None);
        let mut memory = self.0.borrow_mut();
        memory.take()?;
        memory.leaves.insert(entry.gpa, entry);
        Ok(())
    }

    fn unmap(&mut self, gpa: u64) -> Option<Entry> {
        let mut memory = self.0.borrow_mut();
        let entry = memory.leaves.remove(&gpa)?;
        memory.stale.insert(entry.hpa);
        Some(entry)
    }

    fn split(&mut self, gpa: u64) -> Result<(), NoMemory> {
        while let Some(entry) = self.query(gpa).filter(|entry| entry.gpa != gpa) {
            let mut memory = self.0.borrow_mut();
            memory.take()?;
            memory.leaves.remove(&entry.gpa);
            let size = entry.size / 512;
            for ahead in (0..512).map(|at| at * size) {
                let (gpa, hpa) = (entry.gpa + ahead, entry.hpa + ahead);
                memory.leaves.insert(gpa, Entry { gpa, hpa, size, ..entry });
            }
        }
        Ok(())
    }

    fn query(&self, gpa: u64) -> Option<Entry> {
        let memory = self.0.borrow();
        let (_, entry) = memory.leaves.range(..=gpa).next_back()?;
        (gpa - entry.gpa < entry.size).then_some(*entry)
    }

    fn flush(&mut self) {
        self.0.borrow_mut().stale.clear();
    }

    fn alloc_frame(&mut self) -> Result<u64, NoMemory> {
        let mut memory = self.0.borrow_mut();
        memory.take()?;
        let free =
            (0..).map(|at| FRAMES + at * PAGE).find(|at| !memory.taken.contains(at)).unwrap();
        memory.taken.insert(free);
        Ok(free)
    }

    fn free_frame(&mut self, hpa: u64) {
        let mut memory = self.0.borrow_mut();
        assert!(!memory.stale.contains(&hpa), "a TLB may still have {hpa:#x}");
        assert!(memory.taken.remove(&hpa), "{hpa:#x} was free");
        memory.free.push(hpa);
    }
}

fn space() -> (AddrSpace<Table>, Table) {
    let table = Table::default();
    (AddrSpace::new_empty(0, 64 * GIB, table.clone()).unwrap(), table)
}

#[test]
fn the_calls_do_what_their_names_say() {
    let (mut space, table) = space();
    assert_eq!((space.base(), space.end(), space.size()), (0, Some(64 * GIB), Some(64 * GIB)));
    assert!(space.contains_range(0, 64 * GIB) && !space.contains_range(PAGE, 64 * GIB));
    assert!(!space.contains_range(0, 0) && !space.contains_range(u64::MAX, 2));
    space.map_linear(GIB, 5 * GIB, GIB + 4 * MIB, Prot::RW).unwrap();
    space.map_alloc(0, 4 * PAGE, Prot::RW, Populate::OnFault).unwrap();
    let overlap = space.map_alloc(3 * PAGE, 2 * PAGE, Prot::RW, Populate::Now);
    assert_eq!(overlap, Err(HookError::Map(Error::Overlap)));
    assert_eq!(table.0.borrow().leaves.len(), 3);
    assert_eq!(space.translate(GIB + 5), Some(5 * GIB + 5));
    assert_eq!(space.translate(PAGE), None);
    assert!(!space.handle_page_fault(PAGE, Prot::EXEC));
    assert!(!space.handle_page_fault(9 * PAGE, Prot::READ));
    assert!(space.handle_page_fault(PAGE + 3, Prot::WRITE));
    assert!(space.handle_page_fault(PAGE + 3, Prot::READ));
    assert_eq!(space.translate(PAGE + 3), Some(FRAMES + 3));
    assert_eq!(space.area_count(), 2);
    space.clear().unwrap();
    assert!(table.0.borrow().leaves.is_empty() && table.0.borrow().taken.is_empty());
}

/// axaddrspace gives the size of the area.
#[test]
fn the_limit_is_what_remains() {
    let (mut space, _) = space();
    space.map_linear(GIB, 5 * GIB, 2 * MIB, Prot::READ).unwrap();
    assert_eq!(space.translate_and_get_limit(GIB), Some((5 * GIB, 2 * MIB)));
    let last = GIB + 2 * MIB - 1;
    assert_eq!(space.translate_and_get_limit(last), Some((5 * GIB + 2 * MIB - 1, 1)));
}

/// axaddrspace panics.
#[test]
fn a_huge_linear_mapping_is_unmapped_in_its_middle() {
    let (mut space, table) = space();
    space.map_linear(0, 2 * GIB, 2 * GIB, Prot::RW).unwrap();
    assert_eq!(table.0.borrow().leaves.len(), 2);
    table.0.borrow_mut().left = Some(1);
    assert_eq!(space.unmap(GIB + 3 * PAGE, PAGE), Err(HookError::Hook(NoMemory)));
    assert_eq!(space.translate(GIB + 3 * PAGE), Some(3 * GIB + 3 * PAGE));
    table.0.borrow_mut().left = None;
    space.unmap(GIB + 3 * PAGE, PAGE).unwrap();
    assert_eq!(space.translate(GIB + 3 * PAGE), None);
    assert_eq!(space.translate(GIB + 4 * PAGE), Some(3 * GIB + 4 * PAGE));
    assert_eq!(space.translate(GIB + 3 * PAGE - 1), Some(3 * GIB + 3 * PAGE - 1));
    assert_eq!(table.query_size(0), GIB);
    assert_eq!(table.query_size(2 * GIB - 1), 2 * MIB);
}

impl Table {
    fn query_size(&self, gpa: u64) -> u64 {
        self.query(gpa).map_or(0, |entry| entry.size)
    }
}

/// axaddrspace leaks twelve frames.
#[test]
fn a_populate_that_fails_leaves_no_frame_and_no_entry() {
    for left in 0..2 * 13 {
        let (mut space, table) = space();
        table.0.borrow_mut().left = Some(left);
        let populated = space.map_alloc(0, 13 * PAGE, Prot::RW, Populate::Now);
        assert_eq!(populated, Err(HookError::Hook(NoMemory)), "{left}");
        assert!(table.0.borrow().taken.is_empty() && table.0.borrow().leaves.is_empty());
        assert_eq!(space.area_count(), 0);
        table.0.borrow_mut().left = Some(2 * 13);
        space.map_alloc(0, 13 * PAGE, Prot::RW, Populate::Now).unwrap();
        drop(space);
        assert!(table.0.borrow().taken.is_empty(), "all frames come back");
    }
}

#[test]
fn random_calls_end_as_in_an_array_of_pages() {
    const PAGES: u64 = 3 * 512;
    #[derive(Clone, Copy, PartialEq)]
    enum Page {
        Free,
        Linear(u64),
        Alloc,
    }
    let mut refused = 0;
    for seed in 0..6 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let (mut space, table) = space();
        let mut pages = vec![Page::Free; PAGES as usize];
        for _ in 0..60 {
            let big = random.pick(&[1, 64, 512]);
            let start = random.below(PAGES / big) * big;
            let len = (1 + random.below(3)) * big;
            let len = len.min(PAGES - start);
            let range = start as usize..(start + len) as usize;
            let is_free = pages[range.clone()].iter().all(|&page| page == Page::Free);
            let host = (random.below(8) * 512 + random.pick(&[start % 512, 0])) * PAGE;
            let (at, bytes) = (start * PAGE, len * PAGE);
            let choice = random.below(4);
            let call = |space: &mut AddrSpace<Table>| -> Result<(), AxError> {
                match choice {
                    0 => space.map_linear(at, host, bytes, Prot::RW),
                    1 => space.map_alloc(at, bytes, Prot::RW, Populate::Now),
                    _ => space.unmap(at, bytes),
                }
            };
            // With a little memory first, and then with all.
            table.0.borrow_mut().left = Some(random.below(40));
            let mut result = call(&mut space);
            if result == Err(HookError::Hook(NoMemory)) {
                refused += 1;
                table.0.borrow_mut().left = None;
                for page in (0..PAGES).filter(|page| page % 7 == seed % 7 || page / 8 == start / 8)
                {
                    let is_mapped = space.translate(page * PAGE).is_some();
                    assert_eq!(is_mapped, pages[page as usize] != Page::Free);
                }
                result = call(&mut space);
            }
            table.0.borrow_mut().left = None;
            match choice {
                0 | 1 if !is_free => assert_eq!(result, Err(HookError::Map(Error::Overlap))),
                0 => {
                    result.unwrap();
                    for (ahead, page) in pages[range].iter_mut().enumerate() {
                        *page = Page::Linear(host + ahead as u64 * PAGE);
                    }
                }
                1 => {
                    result.unwrap();
                    pages[range].fill(Page::Alloc);
                }
                _ => {
                    result.unwrap();
                    pages[range].fill(Page::Free);
                }
            }
            let mut frames = BTreeSet::new();
            for (at, page) in pages.iter().enumerate() {
                let found = space.translate(at as u64 * PAGE);
                match page {
                    Page::Free => assert_eq!(found, None, "page {at}"),
                    Page::Linear(host) => assert_eq!(found, Some(*host), "page {at}"),
                    Page::Alloc => assert!(frames.insert(found.unwrap()), "page {at}"),
                }
            }
            assert_eq!(frames, table.0.borrow().taken);
            assert!(table.0.borrow().stale.is_empty(), "a flush is missing");
        }
    }
    assert!(refused > 20, "{refused}");
}
