//! The comparison of the second stage with the regions, page by page and both ways, and of frames
//! with their owners.

use kvma::Prot;
use kvma::guest::{HostBacking, Region, RegionState};

use crate::frames::{self, FRAME_SIZE, Owner};
use crate::stage2::Found;
use crate::vm::{Memory, Vm};

/// Checks a guest of which no virtual processor runs. Returns the number of pages that are mapped.
///
/// # Panics
///
/// If anything differs.
pub fn guest(vm: &Vm) -> u64 {
    vm.guest.inspect(|guest| {
        if let Err(wrong) = guest.check() {
            panic!("kvma's own maps: {wrong}");
        }
        let memory = vm.memory.lock();
        // From the tables to the regions.
        let mut pages = 0;
        memory.tables.for_each(|leaf| {
            for gpa in (leaf.gpa..leaf.gpa + leaf.size).step_by(FRAME_SIZE as usize) {
                let Some(region) = guest.region(gpa) else {
                    panic!("page {gpa:#x} is mapped, but there is no region")
                };
                page(vm, &memory, &region, gpa, &leaf);
                pages += 1;
            }
        });
        // From the regions to the tables.
        let mut mapped = 0;
        for region in guest.regions(0, u64::MAX) {
            let range = region.range();
            for gpa in (range.start()..=range.last()).step_by(FRAME_SIZE as usize) {
                if let Some(leaf) = memory.tables.find(gpa) {
                    page(vm, &memory, &region, gpa, &leaf);
                    mapped += 1;
                }
            }
        }
        assert!(pages == mapped, "{pages} pages are mapped, {mapped} of them in regions");
        frames_of(vm, &memory);
        pages
    })
}

/// Checks a page that is mapped: its region allows it, and it shows what the region says.
fn page(vm: &Vm, memory: &Memory, region: &Region, gpa: u64, leaf: &Found) {
    let state = region.state();
    assert!(
        region.kind().is_mapped() && !state.contains(RegionState::UNPLUGGED),
        "page {gpa:#x} is mapped, and its region is {region:?}"
    );
    assert!(
        region.prot().contains(leaf.prot),
        "page {gpa:#x} allows {}, its region {}",
        leaf.prot,
        region.prot()
    );
    let host = leaf.host + (gpa - leaf.gpa);
    let shown = match region.backing_at(gpa) {
        HostBacking::Host { addr } => Some(addr),
        HostBacking::Frames { offset, .. } => memory.source.frame(offset),
        _ => None,
    };
    assert!(shown == Some(host), "page {gpa:#x} shows {host:#x}, not {shown:x?}");
    if state.contains(RegionState::LOG_DIRTY) {
        assert!(leaf.size == FRAME_SIZE, "page {gpa:#x} is logged, but is a part of a large leaf");
        assert!(
            !leaf.prot.contains(Prot::WRITE) || vm.dirty().is_marked(vm.logged(), gpa),
            "page {gpa:#x} can be written to, and is not marked as dirty"
        );
    }
    if let Some(largest) = region.max_leaf() {
        assert!(leaf.size <= largest, "page {gpa:#x} is a part of too large a leaf");
    }
}

/// Checks that frames and their owners agree, both ways.
fn frames_of(vm: &Vm, memory: &Memory) {
    let mut pages = 0;
    for (offset, frame) in memory.source.pages() {
        let owner = frames::owner(frame);
        assert!(owner == memory.source.owner(offset), "the frame for {offset:#x} is {owner:?}");
        pages += 1;
    }
    let number = vm.number;
    let owned =
        frames::count(|owner| matches!(owner, Owner::Source { guest, .. } if guest == number));
    assert!(owned == pages, "{owned} frames are the guest's, and {pages} in its source");
    let tables = frames::count(|owner| owner == Owner::Table(number));
    let walked = memory.tables.count();
    assert!(tables == walked, "{tables} frames are tables, and {walked} are reached");
}
