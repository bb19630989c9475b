//! rust-vmm's vm-allocator.

use ::vm_allocator::{AddressAllocator, AllocPolicy, RangeInclusive};

use super::{LIMIT, PAGE, Peer};
use crate::Load;

/// vm-allocator: which ranges are taken, and nothing about them.
#[derive(Debug)]
pub struct VmAllocator {
    ranges: AddressAllocator,
    count: usize,
}

impl Default for VmAllocator {
    fn default() -> Self {
        Self { ranges: AddressAllocator::new(0, LIMIT).expect("a range"), count: 0 }
    }
}

impl Peer for VmAllocator {
    const NAME: &'static str = "vm-allocator";
    const LOADS: &'static [Load] = &[Load::Churn, Load::Beyond];
    const LARGEST: usize = 10_000;

    fn len(&self) -> usize {
        self.count
    }

    fn insert(&mut self, start: u64, len: u64, _: u32) {
        self.ranges.allocate(len, PAGE, AllocPolicy::ExactMatch(start)).expect("free");
        self.count += 1;
    }

    fn insert_anywhere(&mut self, len: u64, _: u32) -> u64 {
        self.count += 1;
        self.ranges.allocate(len, PAGE, AllocPolicy::FirstMatch).expect("room").start()
    }

    fn remove(&mut self, start: u64, len: u64) {
        let range = RangeInclusive::new(start, start + len - 1).expect("a range");
        self.ranges.free(&range).expect("mapped");
        self.count -= 1;
    }
}
