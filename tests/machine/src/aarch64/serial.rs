//! The serial port of QEMU's `virt` (Arm's PL011), as the emulator leaves it.

use spin::mutex::SpinMutex;

use crate::memory_map::{DIRECT_MAP, UART};

/// Registers: data, and flags. Of these, one says that there is no room for another byte.
const DATA: u64 = 0;
const FLAGS: u64 = 0x18;
const FULL: u32 = 1 << 5;

static PORT: SpinMutex<()> = SpinMutex::new(());

fn register(offset: u64) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + UART + offset) as usize)
}

/// Writes bytes.
pub fn send(bytes: &[u8]) {
    let _port = PORT.lock();
    for &byte in bytes {
        // SAFETY: registers of the port, which the direct map covers.
        unsafe {
            while register(FLAGS).read_volatile() & FULL != 0 {
                core::hint::spin_loop();
            }
            register(DATA).write_volatile(u32::from(byte));
        }
    }
}
