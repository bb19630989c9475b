//! `pkey_alloc(2)`, `pkey_free(2)`
//!
//! Protection keys are bookkeeping here: what a key forbids is in a register of the processor.
//! `pkey_mprotect(2)` is beside mprotect.

use super::file::File;
use super::mm::{Mm, MmAlloc};
use super::vm_flags::VmFlags;
use crate::Errno;

/// The keys that a program has allocated, one bit each. Every program has key 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys(u16);

impl Keys {
    pub(super) const fn new() -> Self {
        Self(1)
    }

    /// Returns the bit of a key, if it has one.
    fn bit(key: u64) -> Option<u16> {
        u32::try_from(key).ok().and_then(|key| 1u16.checked_shl(key))
    }

    fn has(self, key: u64) -> bool {
        Self::bit(key).is_some_and(|bit| self.0 & bit != 0)
    }

    fn free(&mut self, key: u64) {
        self.0 &= !Self::bit(key).unwrap_or(0);
    }
}

/// `PKEY_DISABLE_ACCESS`, `PKEY_DISABLE_WRITE`
const RIGHTS: u64 = 3;
/// In `pkey_mprotect`: no key.
pub(super) const NO_KEY: u64 = u32::MAX as u64;
/// No key is left ("no space left on device").
const ENOSPC: Errno = Errno(28);

/// Puts the four bits of a key into `flags`.
pub(super) fn with_key(mut flags: VmFlags, key: u64) -> VmFlags {
    let bits = [VmFlags::PKEY_0, VmFlags::PKEY_1, VmFlags::PKEY_2, VmFlags::PKEY_3];
    for (at, bit) in bits.into_iter().enumerate() {
        flags.set(bit, key >> at & 1 != 0);
    }
    flags
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Returns `true` if the key is allocated, on a processor that has it
    /// (`mm_pkey_is_allocated`).
    pub(super) fn has_key(&self, key: u64) -> bool {
        key < self.layout.protection_keys().into() && self.keys.has(key)
    }

    /// Allocates a protection key: `pkey_alloc(2)`. Returns the key.
    ///
    /// # Errors
    ///
    /// `EINVAL`: flags, unknown rights, or a processor without keys
    /// ([`Layout::with_protection_keys`](super::Layout::with_protection_keys)). `ENOSPC`: all are
    /// taken.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, NoFile, NoKernel};
    /// # use kvma::{Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
    /// assert_eq!(mm.pkey_alloc(0, 0), Ok(1)); // 0 is everybody's
    /// assert_eq!(mm.pkey_alloc(1, 0), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn pkey_alloc(&mut self, flags: u64, rights: u64) -> Result<u64, Errno> {
        let keys = self.layout.protection_keys();
        if flags != 0 || rights & !RIGHTS != 0 || keys == 0 {
            return Err(Errno::EINVAL);
        }
        let key = self.keys.0.trailing_ones();
        if key >= keys {
            return Err(ENOSPC);
        }
        self.keys.0 |= 1 << key;
        Ok(key.into())
    }

    /// Frees a protection key: `pkey_free(2)`. Returns 0. VMAs that are tagged with it stay so, as
    /// in Linux.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the key is not allocated.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, NoFile, NoKernel};
    /// # use kvma::{Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
    /// let key = mm.pkey_alloc(0, 0)?;
    /// assert_eq!(mm.pkey_free(key), Ok(0));
    /// assert_eq!(mm.pkey_free(key), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn pkey_free(&mut self, key: u64) -> Result<u64, Errno> {
        let key = key & NO_KEY;
        if !self.has_key(key) {
            return Err(Errno::EINVAL);
        }
        self.keys.free(key);
        Ok(0)
    }
}
