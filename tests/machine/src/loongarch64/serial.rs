//! The serial port for people: the first one.

use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use super::uart;
use crate::memory_map::UART;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Turns the port on. Before this, [`send`] is silent.
pub fn init() {
    uart::init(UART);
    IS_ON.store(true, Relaxed);
}

/// Writes bytes.
pub fn send(bytes: &[u8]) {
    if IS_ON.load(Relaxed) {
        uart::send(UART, bytes);
    }
}
