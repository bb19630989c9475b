//! The machine: entry, traps, serial port, time and exit.

pub mod apic;
pub mod cpu;
pub mod debug_port;
mod entry;
pub mod exit;
mod runtime;
pub mod second;
pub mod serial;
pub mod signal_frame;
pub mod start_info;
pub mod timer;
pub mod traps;
pub mod user;

/// Constants from `targets/<arch>/memory.map`.
#[allow(dead_code, reason = "some are for the linker script and the host program")]
pub mod memory_map {
    include!(concat!(env!("OUT_DIR"), "/memory_map.rs"));
}

pub use self::entry::direct_map_table;

/// Lets this processor be interrupted.
pub fn enable_interrupts() {
    x86_64::instructions::interrupts::enable();
}
