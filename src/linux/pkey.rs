//! Protection keys: pkey_alloc(2), pkey_free(2); pkey_mprotect(2) is with mprotect
//!
//! Bookkeeping only: what a key forbids is a register of the processor's.

use super::Mm;
use super::file::File;
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use crate::{Errno, NodeAlloc, VmaNode};

/// Which keys a program has, one bit each. Key 0 is everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys(u16);

impl Keys {
    pub(super) const fn new() -> Self {
        Self(1)
    }

    pub(super) fn has(self, key: u64) -> bool {
        key < 16 && self.0 >> key & 1 != 0
    }
}

/// `PKEY_DISABLE_ACCESS`, `PKEY_DISABLE_WRITE`
const RIGHTS: u64 = 3;
/// In pkey_mprotect: no key.
pub(super) const NO_KEY: u64 = u32::MAX as u64;
/// No space left on device: no key left.
const ENOSPC: Errno = Errno(28);

/// `flags` with the four bits of a key.
pub(super) fn key_flags(flags: VmFlags, key: u64) -> VmFlags {
    let bits = [VmFlags::PKEY_0, VmFlags::PKEY_1, VmFlags::PKEY_2, VmFlags::PKEY_3];
    let mut flags = flags;
    for (at, bit) in bits.into_iter().enumerate() {
        flags.set(bit, key >> at & 1 != 0);
    }
    flags
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// pkey_alloc(2). Returns the key.
    ///
    /// # Errors
    /// `EINVAL`: flags, unknown rights. `ENOSPC`: all sixteen are taken.
    pub fn pkey_alloc(&mut self, flags: u64, rights: u64) -> Result<u64, Errno> {
        if flags != 0 || rights & !RIGHTS != 0 {
            return Err(Errno::EINVAL);
        }
        let key = self.keys.0.trailing_ones();
        if key >= 16 {
            return Err(ENOSPC);
        }
        self.keys.0 |= 1 << key;
        Ok(key.into())
    }

    /// pkey_free(2). Returns 0. VMAs keep the key, as in Linux.
    ///
    /// # Errors
    /// `EINVAL`: not allocated.
    pub fn pkey_free(&mut self, key: u64) -> Result<u64, Errno> {
        let key = key & NO_KEY;
        if !self.keys.has(key) {
            return Err(Errno::EINVAL);
        }
        self.keys.0 &= !(1 << key);
        Ok(0)
    }
}
