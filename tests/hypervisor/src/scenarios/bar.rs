//! BARs that move: one of memory, and one of registers.

use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::{HostBacking, Reason, RegionKind, SlotChange, SlotNumber, SlotRequest};

use super::report::watched;
use super::{Scene, expect};
use crate::device::{IDENTITY, register};
use crate::frames::FRAME_SIZE;
use crate::program::Routine;
use crate::program::report::NOTHING;
use crate::vm::{DEVICE, host_frames};

const PAGES: u64 = 8;
const LEN: u64 = PAGES * FRAME_SIZE;
/// The place of the BAR at first.
pub const BAR: u64 = 0x8000_0000;
/// How far it moves over itself.
const STEP: u64 = 2;

/// Adds a BAR of a device's memory.
pub fn add(scene: &Scene<'_>) -> SlotNumber {
    let memory = HostBacking::Host { addr: host_frames(3, PAGES as usize) };
    scene.vm.add(SlotRequest::new(BAR, LEN, RegionKind::Passthrough, memory))
}

impl Scene<'_> {
    pub fn move_to(&self, slot: SlotNumber, gpa: u64) {
        let change = SlotChange::new().move_to(gpa);
        expect(self.vm.guest.modify_slot(slot, change, &mut self.vm.hooks()));
    }
}

pub fn run(scene: &Scene<'_>) {
    let bar = add(scene);
    moves(scene, bar);
    while_it_is_read(scene, bar);
    registers(scene);
    expect(scene.vm.guest.remove_slot(bar, &mut scene.vm.hooks()));
}

fn page(number: u64) -> u64 {
    BAR + number * FRAME_SIZE
}

fn moves(scene: &Scene<'_>, bar: SlotNumber) {
    let vm = scene.vm;
    assert!(vm.fill(BAR, PAGES, 200));
    let shows = |first: u64| {
        (0..PAGES).all(|number| vm.load(page(first + number)) == Some(200 + number as u32))
    };
    for (to, statement) in [
        (STEP, "a BAR that moves over itself is one change with one flush, and keeps its contents"),
        (0, "so it is downwards"),
        (0x1_0000, "and to a place of its own"),
    ] {
        let flushes = vm.flushes.load(Relaxed);
        scene.move_to(bar, page(to));
        let flushes = vm.flushes.load(Relaxed) - flushes;
        // All that the guest could reach before, and cannot any more.
        let left = (0..PAGES + STEP).filter(|number| !(to..to + PAGES).contains(number));
        let refused = left
            .map(|number| vm.run(Routine::Load, [page(number), 0, 0, 0]))
            .all(|over| over.result.is_none() && over.reason == Some(Reason::NothingThere));
        scene.check(statement, flushes == 1 && refused && shows(to));
    }
    scene.move_to(bar, BAR);
}

fn while_it_is_read(scene: &Scene<'_>, bar: SlotNumber) {
    let seen = watched(scene.vm, page(4), |report| {
        let before = report.seen();
        scene.move_to(bar, page(STEP));
        report.wait();
        let over_itself = report.seen();
        scene.move_to(bar, page(0x100));
        report.wait();
        let away = report.seen();
        scene.move_to(bar, BAR);
        report.wait();
        (before, over_itself, away, report.seen())
    });
    scene.check(
        "a guest that reads on sees each place of the BAR at once",
        seen == (204, 202, NOTHING, 204),
    );
}

fn registers(scene: &Scene<'_>) {
    const TO: u64 = DEVICE + 0x10_0000;
    let vm = scene.vm;
    scene.move_to(scene.slots.device, TO);
    scene.check(
        "a BAR of registers is where it was moved to, with the same key and offsets",
        vm.load(TO + register::IDENTITY) == Some(IDENTITY)
            && vm.store(TO + register::SCRATCH, 9)
            && vm.load(TO + register::SCRATCH) == Some(9)
            && vm.load(DEVICE + register::IDENTITY).is_none(),
    );
    scene.move_to(scene.slots.device, DEVICE);
}
