//! Starts the second processor, which waits in QEMU's ROM for the address to go to.

use super::{entry, iocsr};
use crate::cpus::SECOND;

/// Sends the second processor to `second_main`, and waits until `is_up` returns true.
///
/// # Safety
///
/// `second_main` must be ready to run. Must be called once.
pub unsafe fn start(is_up: impl Fn() -> bool) {
    iocsr::send_mail(SECOND, entry::second());
    iocsr::interrupt(SECOND);
    while !is_up() {
        core::hint::spin_loop();
    }
}
