//! A nested page table whose frames are those of axaddrspace's tests.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kvma::guest::LeafSizes;
use kvma_axaddrspace::{Entry, NestedTable, NoMemory};

use crate::test_utils::{ALLOC_COUNT, BASE_PADDR, DEALLOC_COUNT, MEMORY_LEN, NEXT_PADDR};

const PAGE: u64 = 0x1000;

/// A page table with a frame for its root.
pub struct MockNestedPageTable {
    leaves: BTreeMap<u64, Entry>,
}

fn alloc() -> Option<u64> {
    let frame = NEXT_PADDR.fetch_add(PAGE as usize, Ordering::SeqCst);
    if frame >= BASE_PADDR + MEMORY_LEN {
        return None;
    }
    ALLOC_COUNT.fetch_add(1, Ordering::SeqCst);
    Some(frame as u64)
}

fn dealloc() {
    DEALLOC_COUNT.fetch_add(1, Ordering::SeqCst);
}

impl MockNestedPageTable {
    /// Takes a frame for the root.
    pub fn new() -> Self {
        alloc().expect("a frame for the root");
        Self { leaves: BTreeMap::new() }
    }
}

impl Drop for MockNestedPageTable {
    fn drop(&mut self) {
        dealloc();
    }
}

impl NestedTable for MockNestedPageTable {
    fn sizes(&self) -> LeafSizes {
        LeafSizes::SIZE_4K
    }

    fn map(&mut self, entry: Entry) -> Result<(), NoMemory> {
        assert_eq!((entry.gpa | entry.hpa) % entry.size, 0);
        assert!(self.leaves.insert(entry.gpa, entry).is_none());
        Ok(())
    }

    fn unmap(&mut self, gpa: u64) -> Option<Entry> {
        self.leaves.remove(&gpa)
    }

    fn split(&mut self, _gpa: u64) -> Result<(), NoMemory> {
        Ok(()) // every leaf is a page
    }

    fn query(&self, gpa: u64) -> Option<Entry> {
        self.leaves.get(&(gpa & !(PAGE - 1))).copied()
    }

    fn flush(&mut self) {}

    fn alloc_frame(&mut self) -> Result<u64, NoMemory> {
        alloc().ok_or(NoMemory)
    }

    fn free_frame(&mut self, _hpa: u64) {
        dealloc();
    }
}
