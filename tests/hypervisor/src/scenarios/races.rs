//! A virtual processor that is in the middle of a fault while another processor changes memory: by
//! a rendezvous, not by chance.

use core::sync::atomic::Ordering::Relaxed;

use kvma::guest::{HostBacking, Reason, RegionState, SlotChange, SlotRequest};
use kvma_machine::rendezvous::{self, Met};

use super::report::watched;
use super::{Scene, bar, expect};
use crate::frames::{BLOCK_SIZE, FRAME_SIZE, POISON};
use crate::program::Routine;
use crate::program::report::NOTHING;
use crate::run::Over;
use crate::vm::{PLUGGED, RAM, host_frames};

/// The outcome of a fault that was overtaken.
struct Overtaken {
    over: Over,
    /// The number of tokens that were found invalid.
    invalid: u64,
}

impl Scene<'_> {
    /// Makes an access on the second processor, whose fault is overtaken by `change`.
    fn overtake(&self, routine: Routine, gpa: u64, change: impl FnOnce()) -> Overtaken {
        let before = self.vm.overtaken.load(Relaxed);
        let access = || self.vm.run(routine, [gpa, 1, 0, 0]);
        let (over, (), met) = rendezvous::overtake(gpa, access, change);
        assert_eq!(met, Met::Yes, "the access was over before it could be overtaken");
        Overtaken { over, invalid: self.vm.overtaken.load(Relaxed) - before }
    }

    /// Returns true if the second stage maps a page.
    fn is_mapped(&self, gpa: u64) -> bool {
        self.vm.memory.lock().tables.find(gpa).is_some()
    }
}

pub fn run(scene: &Scene<'_>) {
    overtaken(scene);
    replaced(scene);
    elsewhere(scene);
    at_random(scene);
}

fn overtaken(scene: &Scene<'_>) {
    let vm = scene.vm;
    scene.plug(PLUGGED, BLOCK_SIZE);
    let fault = scene.overtake(Routine::Load, PLUGGED, || scene.unplug(PLUGGED, BLOCK_SIZE));
    let is_left = scene.is_mapped(PLUGGED);
    scene.check(
        "a fault that is overtaken by an unplugging is refused, and leaves no entry",
        fault.over.result.is_none()
            && fault.over.reason == Some(Reason::Unplugged(scene.slots.plugged))
            && fault.invalid == 1
            && !is_left,
    );

    let bar = bar::add(scene);
    let fault =
        scene.overtake(Routine::Store, bar::BAR, || scene.move_to(bar, bar::BAR + BLOCK_SIZE));
    scene.check(
        "a store whose fault is overtaken by a BAR's move does not reach it",
        fault.over.result.is_none()
            && fault.invalid == 1
            && vm.load(bar::BAR + BLOCK_SIZE) == Some(0),
    );
    let read_only = SlotChange::new().set(RegionState::READ_ONLY);
    scene.move_to(bar, bar::BAR);
    let fault = scene.overtake(Routine::Store, bar::BAR, || {
        expect(vm.guest.modify_slot(bar, read_only, &mut vm.hooks()));
    });
    scene.check(
        "a store whose fault is overtaken by write protection is refused",
        fault.over.reason == Some(Reason::ReadOnly(bar))
            && fault.invalid == 1
            && vm.load(bar::BAR) == Some(0),
    );
    expect(vm.guest.remove_slot(bar, &mut vm.hooks()));
}

fn replaced(scene: &Scene<'_>) {
    const AT: u64 = 0x9000_0000;
    let vm = scene.vm;
    let old = HostBacking::Host { addr: host_frames(0, 1) };
    let addr = host_frames(0, 1);
    crate::frames::write(addr, 55);
    let slot = vm.add(SlotRequest::ram(AT, FRAME_SIZE, old));
    let fault = scene.overtake(Routine::Load, AT, || {
        expect(vm.guest.remove_slot(slot, &mut vm.hooks()));
        let new = SlotRequest::ram(AT, FRAME_SIZE, HostBacking::Host { addr });
        assert_eq!(vm.add(new), slot);
    });
    scene.check(
        "a slot that is removed and added again, with the same number, is another slot",
        fault.over.result == Some(55) && fault.invalid == 1,
    );
    expect(vm.guest.remove_slot(slot, &mut vm.hooks()));
}

fn elsewhere(scene: &Scene<'_>) {
    let vm = scene.vm;
    let at = RAM + 3 * BLOCK_SIZE;
    scene.balloon(at, BLOCK_SIZE / FRAME_SIZE);
    let fault = scene.overtake(Routine::Load, at, || {
        scene.plug(PLUGGED, BLOCK_SIZE);
        assert!(vm.store(PLUGGED, 1));
        scene.unplug(PLUGGED, BLOCK_SIZE);
    });
    scene.check(
        "a fault that is overtaken by changes elsewhere goes through",
        fault.over.result == Some(0) && fault.invalid == 0 && scene.is_mapped(at),
    );
}

fn at_random(scene: &Scene<'_>) {
    const CHANGES: u32 = 300;
    const PAGES: u64 = 32;
    let vm = scene.vm;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    scene.plug(PLUGGED, PAGES * FRAME_SIZE);
    let watched_page = PAGES / 2;
    let mut is_plugged = [true; PAGES as usize];
    let wrong = watched(vm, PLUGGED + watched_page * FRAME_SIZE, |report| {
        let mut wrong = 0;
        for _ in 0..CHANGES {
            let page = below(PAGES);
            let at = PLUGGED + page * FRAME_SIZE;
            let plugged = &mut is_plugged[page as usize];
            match below(3) {
                0 if *plugged => scene.balloon(at, 1),
                _ if *plugged => {
                    scene.unplug(at, FRAME_SIZE);
                    *plugged = false;
                }
                _ => {
                    scene.plug(at, FRAME_SIZE);
                    *plugged = true;
                }
            }
            if page == watched_page {
                report.wait();
                let expected = if is_plugged[page as usize] { 0 } else { NOTHING };
                wrong += u32::from(report.seen() != expected);
            }
            assert!(report.seen() != POISON, "the guest has seen a freed frame");
        }
        wrong
    });
    scene.check("among many changes, the guest sees each of its page at once", wrong == 0);
    for page in (0..PAGES).filter(|&page| is_plugged[page as usize]) {
        scene.unplug(PLUGGED + page * FRAME_SIZE, FRAME_SIZE);
    }
    scene.check("and at the end no page is left", !scene.is_mapped(PLUGGED));
}
