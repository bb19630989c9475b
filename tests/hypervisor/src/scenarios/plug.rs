//! Memory that is plugged in and out while the guest runs.

use kvma::guest::{GuestData, Reason};
use kvma::{Attrs, Error, Hooks, Piece};

use super::memory::leaf_size;
use super::report::{Report, watched};
use super::{Scene, expect};
use crate::frames::{BLOCK_SIZE, FRAME_SIZE, POISON};
use crate::hooks::Stage2Hooks;
use crate::program::Routine;
use crate::program::report::NOTHING;
use crate::vm::PLUGGED;

impl Scene<'_> {
    pub fn plug(&self, gpa: u64, len: u64) {
        expect(self.vm.guest.plug(self.slots.plugged, gpa, len, &mut self.vm.hooks()));
    }

    pub fn unplug(&self, gpa: u64, len: u64) {
        expect(self.vm.guest.unplug(self.slots.plugged, gpa, len, &mut self.vm.hooks()));
    }

    fn plugged_bytes(&self) -> Option<u64> {
        self.vm.guest.inspect(|guest| guest.plugged_bytes(self.slots.plugged))
    }
}

pub fn run(scene: &Scene<'_>) {
    blocks(scene);
    while_it_runs(scene);
    before_the_flush(scene);
    one_page(scene);
}

fn blocks(scene: &Scene<'_>) {
    let vm = scene.vm;
    let over = vm.run(Routine::Load, [PLUGGED, 0, 0, 0]);
    scene.check(
        "memory that is not plugged in is refused",
        over.result.is_none()
            && over.reason == Some(Reason::Unplugged(scene.slots.plugged))
            && scene.plugged_bytes() == Some(0),
    );
    scene.plug(PLUGGED, 2 * BLOCK_SIZE);
    scene.check(
        "blocks that were plugged in are there, by 2 MiB",
        vm.store(PLUGGED + BLOCK_SIZE, 5)
            && leaf_size(vm, PLUGGED + BLOCK_SIZE) == Some(BLOCK_SIZE)
            && scene.plugged_bytes() == Some(2 * BLOCK_SIZE),
    );
    scene.unplug(PLUGGED, 2 * BLOCK_SIZE);
    scene.check(
        "and gone when they were unplugged",
        vm.load(PLUGGED + BLOCK_SIZE).is_none() && scene.plugged_bytes() == Some(0),
    );
}

fn while_it_runs(scene: &Scene<'_>) {
    let vm = scene.vm;
    scene.plug(PLUGGED, BLOCK_SIZE);
    assert!(vm.store(PLUGGED, 6));
    let seen = watched(vm, PLUGGED, |report| {
        let before = report.seen();
        scene.unplug(PLUGGED, BLOCK_SIZE);
        report.wait();
        let gone = (report.seen(), report.refused() > 0);
        scene.plug(PLUGGED, BLOCK_SIZE);
        report.wait();
        (before, gone, report.seen())
    });
    scene.check(
        "a guest that reads on without an exit sees memory go and come, and no stale entry",
        seen == (6, (NOTHING, true), 0),
    );
    scene.unplug(PLUGGED, BLOCK_SIZE);
}

/// Hooks that wait before the flush until the guest has made another access.
struct SlowFlush<'a> {
    inner: Stage2Hooks<'a>,
    report: Report<'a>,
    seen: u32,
}

impl Hooks<GuestData<()>> for SlowFlush<'_> {
    type Error = Error;

    fn on_protect(&mut self, piece: &Piece<'_, GuestData<()>>, old: &Attrs) {
        self.inner.on_protect(piece, old);
        self.report.wait_or_retry();
        self.seen = self.report.seen();
    }

    fn flush_begin(&mut self) {
        Hooks::<GuestData<()>>::flush_begin(&mut self.inner);
    }

    fn flush_wait(&mut self) {
        Hooks::<GuestData<()>>::flush_wait(&mut self.inner);
    }
}

fn before_the_flush(scene: &Scene<'_>) {
    let vm = scene.vm;
    scene.plug(PLUGGED, BLOCK_SIZE);
    assert!(vm.store(PLUGGED, 7));
    let seen = watched(vm, PLUGGED, |report| {
        let mut hooks = SlowFlush { inner: vm.hooks(), report, seen: 0 };
        expect(vm.guest.unplug(scene.slots.plugged, PLUGGED, BLOCK_SIZE, &mut hooks));
        hooks.seen
    });
    assert!(seen != POISON, "a frame was freed before the flush");
    scene.check("before the flush it may see what was there, and nothing else", seen == 7);
}

fn one_page(scene: &Scene<'_>) {
    const PAGES: u64 = 8;
    let vm = scene.vm;
    let page = |number: u64| PLUGGED + number * FRAME_SIZE;
    scene.plug(PLUGGED, BLOCK_SIZE);
    assert!(vm.fill(PLUGGED, PAGES, 100) && leaf_size(vm, PLUGGED) == Some(BLOCK_SIZE));
    scene.unplug(page(3), FRAME_SIZE);
    scene.check(
        "a page that is unplugged in the middle of a large leaf goes alone",
        (0..PAGES).all(|number| {
            let value = (number != 3).then_some(100 + number as u32);
            vm.load(page(number)) == value
        }) && leaf_size(vm, PLUGGED) == Some(FRAME_SIZE),
    );
    scene.plug(page(3), FRAME_SIZE);
    scene.check(
        "and is empty when it was plugged in again",
        vm.load(page(3)) == Some(0) && vm.load(page(4)) == Some(104),
    );
    scene.unplug(PLUGGED, BLOCK_SIZE);
}
