//! The parts that depend on the processor and the machine: a folder for each architecture, all of
//! which offer the same to the rest of the kernel.
//!
//! | module         | holds                                                                     |
//! |----------------|---------------------------------------------------------------------------|
//! | `traps`        | trap entry and return, the registers of what was interrupted              |
//! | `user`         | the way into user mode and out of it, and `signal_frame`, a handler's     |
//! | `page_entry`   | one page-table entry                                                      |
//! | `probe`        | accesses of one instruction each, and instructions to fill pages with     |
//!
//! The rest is `kvma-machine`'s, which the test hypervisor uses as well: the way to
//! [`crate::kernel_main`], the processors, interrupts, ports.
//!
//! Tables have the same shape everywhere: four levels of 512 entries, and the kernel in the upper
//! half of each root.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod kernel_stack;
#[cfg(target_arch = "loongarch64")]
mod loongarch64;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use kvma_machine::{cpu, debug_port, interrupts, memory_map, timer};

#[cfg(target_arch = "aarch64")]
pub use self::aarch64::*;
#[cfg(target_arch = "loongarch64")]
pub use self::loongarch64::*;
#[cfg(target_arch = "riscv64")]
pub use self::riscv64::*;
#[cfg(target_arch = "x86_64")]
pub use self::x86_64::*;

/// The kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Load,
    Store,
    Fetch,
}

/// The accesses to a page that the program may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub load: bool,
    pub store: bool,
    pub fetch: bool,
}

impl Rights {
    pub fn allow(self, access: Access) -> bool {
        match access {
            Access::Load => self.load,
            Access::Store => self.store,
            Access::Fetch => self.fetch,
        }
    }

    /// Returns true if any access is allowed. Processors cannot refuse loads from a page that they
    /// allow to store to.
    fn any(self) -> bool {
        self.load || self.store || self.fetch
    }
}

/// Why a thread has left user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    SystemCall,
    PageFault {
        address: u64,
        access: Access,
    },
    Exception(Exception),
    /// The processor was interrupted, and the thread has nothing to do with it.
    Interrupt,
}

/// An exception in user mode other than a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "not every architecture has every one")]
pub enum Exception {
    /// A division by zero, or one of the vector unit's that the program has asked for.
    Arithmetic,
    /// A breakpoint or a single step.
    Breakpoint,
    /// An instruction that does not exist, or not for programs.
    Illegal,
    /// An address that is not aligned as it has to be.
    Alignment,
    /// This address, which no page can have.
    Address(u64),
    /// Something that the program may not do.
    Protection,
}
