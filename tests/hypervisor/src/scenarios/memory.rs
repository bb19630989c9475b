//! RAM by leaves of both sizes, and ROM.

use kvma::guest::Reason;

use super::Scene;
use crate::frames::{BLOCK_SIZE, FRAME_SIZE};
use crate::program::Routine;
use crate::vm::{LOW_RAM, RAM, ROM, ROM_DATA, Vm, rom_word};

pub fn run(scene: &Scene<'_>) {
    demand(scene);
    rom(scene);
    nothing(scene);
}

/// Returns the size of the leaf that maps a page.
pub fn leaf_size(vm: &Vm, gpa: u64) -> Option<u64> {
    vm.memory.lock().tables.find(gpa).map(|leaf| leaf.size)
}

fn demand(scene: &Scene<'_>) {
    const PAGES: u64 = 8;
    let vm = scene.vm;
    scene.check("before the guest touches it, no RAM is mapped", leaf_size(vm, RAM).is_none());
    let sum = (0..PAGES as u32).sum();
    scene.check(
        "RAM that lies as the guest's does is mapped by 2 MiB at the first touch",
        vm.fill(RAM, PAGES, 0)
            && leaf_size(vm, RAM) == Some(BLOCK_SIZE)
            && leaf_size(vm, RAM + BLOCK_SIZE).is_none()
            && vm.sum(RAM, PAGES) == Some(sum),
    );
    scene.check(
        "RAM that does not is mapped by 4 KiB",
        vm.fill(LOW_RAM, PAGES, 0)
            && (0..=PAGES).all(|page| {
                let size = (page < PAGES).then_some(FRAME_SIZE);
                leaf_size(vm, LOW_RAM + page * FRAME_SIZE) == size
            })
            && vm.sum(LOW_RAM, PAGES) == Some(sum),
    );
    scene.check(
        "the hypervisor finds by `translate` what the guest has stored",
        (0..PAGES).all(|page| {
            let at = page * FRAME_SIZE;
            vm.read(RAM + at) == page as u32 && vm.read(LOW_RAM + at) == page as u32
        }),
    );
}

fn rom(scene: &Scene<'_>) {
    let vm = scene.vm;
    scene.check(
        "the guest reads its ROM",
        vm.load(ROM_DATA + 4) == Some(rom_word(1)) && vm.load(ROM_DATA) == Some(rom_word(0)),
    );
    let over = vm.run(Routine::Store, [ROM_DATA, 1, 0, 0]);
    scene.check(
        "and is refused a store to it",
        over.result.is_none()
            && over.reason == Some(Reason::ReadOnly(scene.slots.rom))
            && vm.load(ROM_DATA) == Some(rom_word(0)),
    );
}

fn nothing(scene: &Scene<'_>) {
    let over = scene.vm.run(Routine::Load, [ROM - FRAME_SIZE, 0, 0, 0]);
    scene.check(
        "where there is nothing, accesses are refused",
        over.result.is_none() && over.reason == Some(Reason::NothingThere),
    );
}
