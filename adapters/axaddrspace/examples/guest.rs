//! The memory of a virtual machine over a nested page table that is a map here, so that it runs
//! anywhere: memory that is mapped at once, with large leaves, and memory that faults bring.
//!
//! ```sh
//! cargo run -p kvma-axaddrspace --example guest
//! ```

use std::collections::BTreeMap;

use kvma::Prot;
use kvma::guest::LeafSizes;
use kvma_axaddrspace::{AddrSpace, AxError, Entry, NestedTable, NoMemory, Populate};

const MIB: u64 = 1 << 20;

/// Leaves by their guest-physical address, and the frames that are free.
#[derive(Default)]
struct Table {
    leaves: BTreeMap<u64, Entry>,
    free: Vec<u64>,
    flushes: u32,
}

impl NestedTable for Table {
    fn sizes(&self) -> LeafSizes {
        LeafSizes::SIZE_4K_2M_1G
    }

    fn map(&mut self, entry: Entry) -> Result<(), NoMemory> {
        self.leaves.insert(entry.gpa, entry);
        Ok(())
    }

    fn unmap(&mut self, gpa: u64) -> Option<Entry> {
        self.leaves.remove(&gpa)
    }

    fn split(&mut self, gpa: u64) -> Result<(), NoMemory> {
        while let Some(whole) = self.query(gpa).filter(|leaf| leaf.gpa != gpa) {
            self.leaves.remove(&whole.gpa);
            let size = whole.size / 512;
            self.leaves.extend((0..512).map(|at| at * size).map(|ahead| {
                let (gpa, hpa) = (whole.gpa + ahead, whole.hpa + ahead);
                (gpa, Entry { gpa, hpa, size, ..whole })
            }));
        }
        Ok(())
    }

    fn query(&self, gpa: u64) -> Option<Entry> {
        let (_, leaf) = self.leaves.range(..=gpa).next_back()?;
        (gpa - leaf.gpa < leaf.size).then_some(*leaf)
    }

    fn flush(&mut self) {
        self.flushes += 1;
    }

    fn alloc_frame(&mut self) -> Result<u64, NoMemory> {
        self.free.pop().ok_or(NoMemory)
    }

    fn free_frame(&mut self, hpa: u64) {
        self.free.push(hpa);
    }
}

fn main() -> Result<(), AxError> {
    let free = (1..=4).map(|frame| frame * 0x1000).collect();
    let mut space = AddrSpace::new_empty(0, 1 << 40, Table { free, ..Table::default() })?;

    // 6 MiB of the host's memory, at once: three leaves of 2 MiB.
    space.map_linear(0, 64 * MIB, 6 * MIB, Prot::RW)?;
    println!("{} leaves map 6 MiB", space.page_table().leaves.len());
    assert_eq!(space.translate(5 * MIB + 1), Some(69 * MIB + 1));

    // A page in the middle of a leaf goes, and the rest of the leaf stays.
    space.unmap(MIB, 0x1000)?;
    assert_eq!(space.translate(MIB), None);
    assert_eq!(space.translate(MIB + 0x1000), Some(65 * MIB + 0x1000));

    // A megabyte of which faults bring the frames. An access that is not allowed is an error.
    space.map_alloc(16 * MIB, MIB, Prot::READ, Populate::OnFault)?;
    assert!(space.handle_page_fault(16 * MIB + 0x5123, Prot::READ));
    assert!(!space.handle_page_fault(16 * MIB + 0x6000, Prot::WRITE));
    println!("the fault's byte lies at {:x?}", space.translate(16 * MIB + 0x5123));

    // Eight frames at once cannot be had: refused, and none of the three that there are is lost.
    assert!(space.map_alloc(32 * MIB, 0x8000, Prot::RW, Populate::Now).is_err());
    assert_eq!(space.page_table().free.len(), 3);

    space.clear()?;
    let table = space.page_table();
    println!("{} frames are free, after {} flushes", table.free.len(), table.flushes);
    assert!(table.leaves.is_empty() && table.free.len() == 4);
    Ok(())
}
