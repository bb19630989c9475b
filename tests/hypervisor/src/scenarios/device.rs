//! An emulated device.

use super::Scene;
use crate::device::{IDENTITY, register};
use crate::vm::DEVICE;

pub fn run(scene: &Scene<'_>) {
    let vm = scene.vm;
    let scratch = DEVICE + register::SCRATCH;
    scene.check(
        "loads and stores of a device's registers reach it, with its key and the offset",
        vm.load(DEVICE + register::IDENTITY) == Some(IDENTITY)
            && vm.load(scratch) == Some(0)
            && vm.store(scratch, 0x55)
            && vm.load(scratch) == Some(0x55)
            && vm.load(DEVICE + register::ACCESSES) == Some(5),
    );
}
