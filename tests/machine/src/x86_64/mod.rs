//! x86-64: a PC of QEMU's, started by PVH.

pub mod apic;
pub mod cpu;
pub mod debug_port;
pub mod entry;
mod exit;
pub mod interrupts;
mod runtime;
pub mod second;
pub mod serial;
pub mod start_info;
pub mod timer;

pub use self::exit::exit;
