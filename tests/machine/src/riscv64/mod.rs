//! RISC-V with 64 bits: QEMU's `virt`, without firmware.

pub mod cpu;
pub mod entry;
mod exit;
pub mod interrupts;
pub mod second;
pub mod semihosting_call;
pub mod serial;
pub mod timer;

pub use self::exit::exit;
pub use super::{device_tree as start_info, semihosting as debug_port};
