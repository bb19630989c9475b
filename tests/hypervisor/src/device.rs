//! The emulated device: a page of registers, of which three are there.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// The contents of the first register.
pub const IDENTITY: u32 = 0x6b76_6d61;

/// Registers, by their offset.
pub mod register {
    pub const IDENTITY: u64 = 0;
    /// Holds what was stored last.
    pub const SCRATCH: u64 = 4;
    /// The number of accesses so far.
    pub const ACCESSES: u64 = 8;
}

/// A device.
pub struct Device {
    scratch: AtomicU32,
    accesses: AtomicU32,
}

impl Device {
    pub const fn new() -> Self {
        Self { scratch: AtomicU32::new(0), accesses: AtomicU32::new(0) }
    }

    /// Returns what was stored last, without an access.
    #[cfg(target_arch = "riscv64")]
    pub fn scratch(&self) -> u32 {
        self.scratch.load(Relaxed)
    }

    /// Changes that, without an access.
    #[cfg(target_arch = "riscv64")]
    pub fn set_scratch(&self, value: u32) {
        self.scratch.store(value, Relaxed);
    }

    pub fn load(&self, offset: u64) -> u32 {
        self.accesses.fetch_add(1, Relaxed);
        match offset {
            register::IDENTITY => IDENTITY,
            register::SCRATCH => self.scratch.load(Relaxed),
            register::ACCESSES => self.accesses.load(Relaxed),
            _ => 0,
        }
    }

    pub fn store(&self, offset: u64, value: u32) {
        self.accesses.fetch_add(1, Relaxed);
        if offset == register::SCRATCH {
            self.scratch.store(value, Relaxed);
        }
    }
}
