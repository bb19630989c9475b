//! QEMU's machines without an operating system, as far as the test kernel (`tests/kernel`) and the
//! test hypervisor (`tests/hypervisor`) have it in common: the way from the loader to Rust in the
//! upper half, the second processor, interrupts between the two, the serial port, the end.
//!
//! There is a folder for each architecture. All offer the same:
//!
//! | module       | holds                                                                       |
//! |--------------|-----------------------------------------------------------------------------|
//! | `entry`      | the way from the loader to the user's `kernel_main`, and of the second      |
//! |              | processor to [`cpus`]                                                       |
//! | `start_info` | the loader's command line, module and memory                                |
//! | `cpu`        | the processor's number, its root table and its TLB                          |
//! | `interrupts` | between processors, and the timer's; on and off                             |
//! | `timer`      | the time                                                                    |
//! | `serial`     | a port for people, with [`console`] over it, and `debug_port`, one for the  |
//! |              | host program                                                                |
//! | `exit`       | the end of the machine                                                      |
//!
//! The entry code leaves page tables behind: the direct map ([`memory_map::DIRECT_MAP`]), the
//! kernel's image, and the first 4 GiB at their own addresses. LoongArch needs tables of the image
//! alone. Traps are the user's, who offers:
//!
//! - `kernel_main(start_info: u64) -> !`, not mangled: entered once, on the first processor;
//! - a build script that passes `DEP_KVMA_MACHINE_LINK_ARGS` on to the linker.

#![no_std]

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod broken;
mod command_line;
pub mod console;
pub mod cpus;
#[cfg(not(target_arch = "x86_64"))]
pub mod device_tree;
#[cfg(target_arch = "loongarch64")]
mod loongarch64;
pub mod rendezvous;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
pub mod semihosting;
pub mod shootdown;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use self::aarch64::*;
#[cfg(target_arch = "loongarch64")]
pub use self::loongarch64::*;
#[cfg(target_arch = "riscv64")]
pub use self::riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use self::x86_64::*;

/// The number of processors.
pub const CPUS: usize = 2;

/// Constants from `targets/<arch>/memory.map`.
pub mod memory_map {
    include!(concat!(env!("OUT_DIR"), "/memory_map.rs"));
}

/// The verdict of a kernel on itself.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// All is right.
    Pass,
    /// Something is wrong.
    Fail,
}

/// Returns the address of physical memory in the direct map.
pub fn direct<T>(physical: u64) -> *mut T {
    core::ptr::with_exposed_provenance_mut((memory_map::DIRECT_MAP + physical) as usize)
}

/// Returns the physical address one past the image's last byte.
pub fn image_end() -> u64 {
    unsafe extern "C" {
        static __kernel_end: u8;
    }
    (&raw const __kernel_end).addr() as u64 - memory_map::KERNEL_VIRT
}
