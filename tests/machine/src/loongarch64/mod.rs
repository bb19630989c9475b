//! LoongArch with 64 bits: QEMU's `virt`, without firmware.

pub mod cpu;
pub mod debug_port;
pub mod entry;
mod exit;
pub mod interrupts;
mod iocsr;
pub mod second;
pub mod serial;
pub mod timer;
mod uart;

pub use self::exit::exit;
pub use super::device_tree as start_info;
