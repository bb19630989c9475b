//! The parts that depend on the processor: a folder for each architecture, all of which offer the
//! same to the rest of the hypervisor.
//!
//! | module  | holds                                                                            |
//! |---------|----------------------------------------------------------------------------------|
//! | `entry` | one entry of the second stage, and the shape of its tables                       |
//! | `guest` | the guests' programs, as [`crate::program`] describes them                       |
//! | `traps` | the hypervisor's own traps                                                       |
//! | `vcpu`  | a virtual processor: into the guest and out of it, and its TLB                   |
//!
//! The rest is `kvma-machine`'s, which the test kernel uses as well.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use kvma::guest::Access;

#[cfg(target_arch = "aarch64")]
pub use self::aarch64::*;
#[cfg(target_arch = "riscv64")]
pub use self::riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use self::x86_64::*;

/// Why a virtual processor has left the guest.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// The second stage did not allow an access.
    Fault { gpa: u64, access: Access },
    /// The guest has called the hypervisor: its routine is over.
    Call,
    /// The processor was interrupted, which the hypervisor's own traps have seen to.
    Interrupt,
}

/// An access to a device, as the guest's instruction says.
#[derive(Clone, Copy, Debug)]
pub enum DeviceAccess {
    Load,
    Store(u32),
}
