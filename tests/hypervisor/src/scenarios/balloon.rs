//! Pages that the guest gives up.

use super::report::watched;
use super::{Scene, expect};
use crate::frames::{self, BLOCK_SIZE, FRAME_SIZE, Owner};
use crate::vm::RAM;

/// Pages that are given up, in the second large leaf of RAM.
const AT: u64 = RAM + BLOCK_SIZE;
const PAGES: u64 = 16;

impl Scene<'_> {
    pub fn balloon(&self, gpa: u64, pages: u64) {
        let len = pages * FRAME_SIZE;
        expect(self.vm.guest.balloon(gpa, len, &mut self.vm.hooks()));
    }
}

fn frames_of_guest(number: usize) -> usize {
    frames::count(|owner| matches!(owner, Owner::Source { guest, .. } if guest == number))
}

pub fn run(scene: &Scene<'_>) {
    const GIVEN: u64 = 4;
    let vm = scene.vm;
    assert!(vm.fill(AT, PAGES, 300));
    let before = frames_of_guest(vm.number);
    scene.balloon(AT, GIVEN);
    let page = |number: u64| AT + number * FRAME_SIZE;
    scene.check(
        "pages in the balloon lose their frames",
        before - frames_of_guest(vm.number) == GIVEN as usize,
    );
    scene.check(
        "the guest finds fresh ones there when it wants them back, and all others as they were",
        (0..PAGES).all(|number| {
            let value = if number < GIVEN { 0 } else { 300 + number as u32 };
            vm.load(page(number)) == Some(value)
        }) && frames_of_guest(vm.number) == before,
    );
    let seen = watched(vm, page(5), |report| {
        let before = report.seen();
        scene.balloon(page(5), 1);
        report.wait();
        (before, report.seen())
    });
    scene.check("a page given up beside a guest that reads it is fresh at once", seen == (305, 0));
}
