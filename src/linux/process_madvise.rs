//! process_madvise(2)

use super::file::File;
use super::owner::Owner;
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

/// Whose address space process_madvise is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller's own.
    Own,
    /// Another's, for which the kernel has checked the caller's rights (`PTRACE_MODE_READ` and `CAP_SYS_NICE`).
    Other,
}

/// Advice that changes nothing a program can see, which may therefore be given to others
/// (`process_madvise_remote_valid`): WILLNEED, COLD, PAGEOUT, COLLAPSE.
const HARMLESS: [u64; 4] = [3, 20, 21, 25];

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// process_madvise(2): madvise for each range (address, length) of a vector. Returns the bytes advised.
    ///
    /// It ends at the first error, which is returned if nothing was advised before.
    ///
    /// # Errors
    /// `EINVAL`: flags, or advice that others may not give; and those of [`madvise`](Self::madvise).
    pub fn process_madvise<O: Owner<F>>(
        &mut self,
        target: Target,
        ranges: impl IntoIterator<Item = (u64, u64)>,
        advice: u64,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        if flags & u64::from(u32::MAX) != 0 || (target == Target::Other && !HARMLESS.contains(&advice)) {
            return Err(Errno::EINVAL);
        }
        let mut advised = 0u64;
        for (addr, len) in ranges {
            match self.madvise(addr, len, advice, call) {
                Ok(_) => advised = advised.saturating_add(len),
                Err(errno) if advised == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(advised)
    }
}
