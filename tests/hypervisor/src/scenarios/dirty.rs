//! Dirty logging, through a migration's copy passes while the guest writes.

use kvma::guest::{RegionState, SlotChange};

use super::memory::leaf_size;
use super::report::beside;
use super::{Scene, expect};
use crate::frames::{self, FRAME_SIZE};
use crate::program::Routine;
use crate::vm::{LOGGED_PAGES, RAM, host_frames};

/// The pages that the guest writes to.
const PAGES: u64 = 16;
/// Passes beside the guest.
const PASSES: usize = 4;

impl Scene<'_> {
    fn log(&self, change: SlotChange) {
        expect(self.vm.guest.modify_slot(self.slots.ram, change, &mut self.vm.hooks()));
    }

    /// Makes one pass: copies the pages that were written to since the last one to `copy`. Returns
    /// how many there were.
    fn pass(&self, copy: u64) -> u64 {
        const WORDS: usize = 8;
        let (vm, bitmap) = (self.vm, self.vm.dirty());
        let mut copied = 0;
        let mut next = Some(0);
        while let Some(first) = next {
            let mut words = [0; WORDS];
            let slot = self.slots.ram;
            next = expect(vm.guest.fetch_dirty(slot, &bitmap, first, &mut words, &mut vm.hooks()));
            for page in (0..64 * WORDS as u64)
                .filter(|bit| words[(bit / 64) as usize] >> (bit % 64) & 1 == 1)
                .map(|bit| first + bit)
            {
                assert!(page < PAGES, "page {page} was not written to");
                let ahead = page * FRAME_SIZE;
                frames::copy(vm.host(RAM + ahead), copy + ahead);
                copied += 1;
            }
        }
        copied
    }
}

pub fn run(scene: &Scene<'_>) {
    let vm = scene.vm;
    assert!(LOGGED_PAGES as u64 >= PAGES && vm.fill(RAM, PAGES, 0));
    scene.log(SlotChange::new().set(RegionState::LOG_DIRTY));
    scene.check(
        "where writes are noted, a load maps its page alone, and no store",
        vm.load(RAM).is_some()
            && leaf_size(vm, RAM) == Some(FRAME_SIZE)
            && !vm.dirty().is_marked(vm.logged(), RAM),
    );
    scene.check(
        "a store is noted, and its page copied in one pass",
        vm.store(RAM, 1) && vm.dirty().is_marked(vm.logged(), RAM) && {
            let copy = host_frames(0, PAGES as usize);
            let copied = scene.pass(copy);
            let is_copied = frames::read(copy) == 1;
            let again = scene.pass(copy);
            free(copy);
            copied == 1 && is_copied && again == 0
        },
    );
    let copy = host_frames(0, PAGES as usize);
    let (over, passes) = beside(vm, Routine::Sweep, [RAM, PAGES], |report| {
        let passes: [u64; PASSES] = core::array::from_fn(|_| {
            let copied = scene.pass(copy);
            report.wait();
            copied
        });
        passes
    });
    // The guest has stopped. One pass finds what it wrote last, and the one after it nothing.
    let last = scene.pass(copy);
    let after = scene.pass(copy);
    let is_equal =
        (0..PAGES * FRAME_SIZE).step_by(4).all(|at| frames::read(copy + at) == vm.read(RAM + at));
    free(copy);
    scene.check(
        "copy passes beside a guest that writes end when it stops, and the copy is exact",
        over.result.is_some()
            && passes.iter().all(|&copied| copied > 0)
            && last > 0
            && after == 0
            && is_equal,
    );
    scene.log(SlotChange::new().clear(RegionState::LOG_DIRTY));
    scene.check(
        "when logging ends, stores are not noted any more",
        vm.store(RAM, 2) && !vm.dirty().is_marked(vm.logged(), RAM),
    );
}

fn free(copy: u64) {
    for page in 0..PAGES {
        frames::free(copy + page * FRAME_SIZE);
    }
}
