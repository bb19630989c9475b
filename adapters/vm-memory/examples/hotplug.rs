//! Guest memory of a monitor, of which a module is plugged in while a device goes on with what it
//! has seen before.
//!
//! ```sh
//! cargo run -p kvma-vm-memory --example hotplug
//! ```

use std::error::Error;
use std::sync::Arc;

use kvma_vm_memory::GuestRegionCollection;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
};

type Memory = GuestRegionCollection<GuestRegionMmap>;

/// Anonymous memory of the host, at a place of the guest.
fn module(start: u64, size: usize) -> Result<Arc<GuestRegionMmap>, Box<dyn Error>> {
    let region = GuestRegionMmap::new(MmapRegion::new(size)?, GuestAddress(start));
    Ok(Arc::new(region.ok_or("the region does not fit")?))
}

/// A device: knows of vm-memory's traits, and of nothing else.
fn checksum(memory: &impl GuestMemoryBackend, at: GuestAddress) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0u64;
    for word in 0..4 {
        sum = sum.wrapping_add(memory.read_obj::<u64>(GuestAddress(at.0 + word * 8))?);
    }
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    let low = module(0, 0x1_0000)?;
    let mut memory = Memory::from_arc_regions(vec![low])?;
    let seen_by_device = memory.clone(); // O(1): shares the regions

    // Plugged in behind the first one. A write across both succeeds, as they are contiguous.
    memory.add_region(module(0x1_0000, 0x1_0000)?)?;
    let edge = GuestAddress(0x1_0000 - 16);
    memory.write_slice(&[1; 32], edge)?;
    println!("the sum is {:#x}", checksum(&memory, edge)?);
    assert_eq!(checksum(&memory, edge)?, 0x0404_0404_0404_0404);

    // The device does not see the new module before it is told, but every write to the old one.
    assert!(checksum(&seen_by_device, edge).is_err());
    assert_eq!(seen_by_device.read_obj::<u64>(edge)?, 0x0101_0101_0101_0101);

    // Regions must not overlap, and a refusal has changed nothing.
    assert!(memory.add_region(module(0x1_f000, 0x1000)?).is_err());
    let taken = memory.take_region(GuestAddress(0x1_0000), 0x1_0000)?;
    println!("unplugged {:#x} bytes; {} region is left", taken.len(), memory.num_regions());
    assert_eq!(memory.num_regions(), 1);
    Ok(())
}
