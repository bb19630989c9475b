//! The serial ports of QEMU's `virt`: each a 16550, with its registers in the window for devices.

use crate::memory_map::DEVICE_MAP;

/// Registers: the byte to send; the line's format, and its state.
const SEND: usize = 0;
const FORMAT: usize = 3;
const STATE: usize = 5;
/// In the line's state: the port takes a byte.
const IS_READY: u8 = 1 << 5;
/// Bytes of eight bits, without parity, and one stop bit.
const EIGHT_BITS: u8 = 3;

fn register(port: u64, number: usize) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((DEVICE_MAP + port) as usize + number)
}

/// Prepares the port at a physical address.
pub fn init(port: u64) {
    // SAFETY: a serial port's register, which changes the line alone.
    unsafe { register(port, FORMAT).write_volatile(EIGHT_BITS) };
}

/// Writes bytes to the port at a physical address.
pub fn send(port: u64, bytes: &[u8]) {
    for &byte in bytes {
        // SAFETY: registers of a serial port, in the window for devices, which any processor may
        // use. A byte that the other one sends at the same time comes before or after.
        unsafe {
            while register(port, STATE).read_volatile() & IS_READY == 0 {
                core::hint::spin_loop();
            }
            register(port, SEND).write_volatile(byte);
        }
    }
}
