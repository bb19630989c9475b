//! Starts the second processor, which waits in QEMU's ROM for the address to go to.

use super::{entry, iocsr, timer};
use crate::cpus::SECOND;

/// The time in which it answers, unless it was not yet waiting.
const PATIENCE: u32 = 10_000;

/// Sends the second processor to `second_main`, and waits until `is_up` returns true.
///
/// On a busy host it may not have come as far as to wait: QEMU's code then clears its mailbox, and
/// sleeps on although an interrupt had come before it was allowed. So both are sent until it is up.
/// Once it is, an interrupt more asks it for nothing.
///
/// # Safety
///
/// `second_main` must be ready to run. Must be called once.
pub unsafe fn start(is_up: impl Fn() -> bool) {
    let is_up_soon = || {
        let end = timer::now() + timer::ticks(PATIENCE);
        while !is_up() && timer::now() < end {
            core::hint::spin_loop();
        }
        is_up()
    };
    iocsr::send_mail(SECOND, entry::second());
    loop {
        iocsr::interrupt(SECOND);
        if is_up_soon() {
            return;
        }
        iocsr::send_mail(SECOND, entry::second());
    }
}
