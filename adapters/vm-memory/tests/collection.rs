//! Tests of `kvma_vm_memory::GuestRegionCollection` beside vm-memory's own, which are run against
//! it in adapters/registry-tests.

use std::sync::Arc;

use kvma_vm_memory::GuestRegionCollection;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollectionError, MemoryRegionAddress,
};

/// A region with memory of its own.
#[derive(Debug)]
struct Bank {
    start: u64,
    memory: Vec<u8>,
}

impl GuestMemoryRegion for Bank {
    type B = ();

    fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        let at = self.memory.get(addr.0 as usize).ok_or(GuestMemoryError::InvalidBackendAddress)?;
        Ok(std::ptr::from_ref(at).cast_mut())
    }
}

impl GuestMemoryRegionBytes for Bank {}

fn bank(start: u64, len: usize) -> Arc<Bank> {
    Arc::new(Bank { start, memory: vec![0; len] })
}

#[test]
fn a_clone_does_not_see_what_changes_afterwards() {
    let mut memory = GuestRegionCollection::new();
    memory.add_region(bank(0, 100)).unwrap();
    let mut before = memory.clone();
    memory.add_region(bank(100, 100)).unwrap();
    let taken = memory.take_region(GuestAddress(0), 100).unwrap();
    assert_eq!((memory.num_regions(), before.num_regions()), (1, 1));
    assert!(Arc::ptr_eq(&before.take_region(GuestAddress(0), 100).unwrap(), &taken));
    assert!(memory.find_region(GuestAddress(199)).is_some());
    assert!(memory.find_region(GuestAddress(99)).is_none());
    memory.guest().unwrap().check().unwrap();
}

#[test]
fn what_cannot_be_held_is_refused_and_nothing_changes() {
    let mut memory = GuestRegionCollection::new();
    memory.add_region(bank(8, 8)).unwrap();
    for (start, len) in [(0, 0), (u64::MAX, 1), (u64::MAX - 3, 16)] {
        let added = memory.add_region(bank(start, len));
        assert!(matches!(added, Err(GuestRegionCollectionError::NoMemoryRegion)));
    }
    let added = memory.add_region(bank(0, 9));
    assert!(matches!(added, Err(GuestRegionCollectionError::MemoryRegionOverlap)));
    assert!(memory.take_region(GuestAddress(8), 7).is_err());
    assert_eq!(memory.num_regions(), 1);
    assert_eq!(memory.iter().count(), 1);
}

#[test]
fn the_monitors_memory_leads_back_to_the_guest() {
    let mut memory = GuestRegionCollection::new();
    let region = bank(0x1000, 64);
    let host = region.memory.as_ptr().addr() as u64;
    memory.add_region(region).unwrap();
    memory.add_region(bank(0x2000, 64)).unwrap();
    let guest = memory.guest().unwrap();
    let uses: Vec<_> = guest.host_uses(host + 3, 2).map(|shown| shown.range().start()).collect();
    assert_eq!(uses, [0x1003]);
    let found = guest.translate(0x1010).unwrap();
    assert_eq!((found.host(), found.remaining()), (Some(host + 0x10), 48));
}

#[test]
fn a_collection_can_be_shared_among_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<GuestRegionCollection<Bank>>();
}
