//! process_madvise(2)

use super::abi::int;
use super::file::File;
use super::kernel::Kernel;
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

/// Whose address space process_madvise is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller's own.
    Own,
    /// Another's, for which the kernel has checked the caller's rights (`PTRACE_MODE_READ` and
    /// `CAP_SYS_NICE`).
    Other,
}

/// Advice that changes nothing a program can see, which may therefore be given to others
/// (`process_madvise_remote_valid`): WILLNEED, COLD, PAGEOUT, COLLAPSE.
const HARMLESS: [u64; 4] = [3, 20, 21, 25];

/// Most ranges of a vector (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;
/// Most bytes of a vector (`MAX_RW_COUNT`).
const MAX_BYTES: u64 = 0x7fff_f000;

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// process_madvise(2): madvise for each range (address, length) of a vector, which the kernel
    /// has copied from the caller's memory. Returns the bytes advised.
    ///
    /// It ends at the first error, which is returned if nothing was advised before. Nor does it go
    /// further than 2 GiB less a page: what lies behind in the vector is left out.
    ///
    /// # Errors
    /// `EINVAL`: flags, more than 1024 ranges, a length above 2^63, advice that others may not
    /// give; and those of [`madvise`](Self::madvise). `EFAULT`: a range that leaves user space,
    /// before anything is advised.
    pub fn process_madvise<O: Kernel<F>>(
        &mut self,
        target: Target,
        ranges: impl IntoIterator<Item = (u64, u64), IntoIter: Clone>,
        advice: u64,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        if int(flags) != 0 {
            return Err(Errno::EINVAL);
        }
        let ranges = ranges.into_iter();
        let total = self.imported(ranges.clone())?;
        if target == Target::Other && !HARMLESS.contains(&int(advice)) {
            return Err(Errno::EINVAL);
        }
        let mut advised = 0u64;
        for (index, (addr, len)) in ranges.enumerate() {
            if advised == total {
                break;
            }
            // A range of nothing is looked at only if it is the first (`iov_iter_advance` skips
            // it).
            if len == 0 && index > 0 {
                continue;
            }
            let len = len.min(total - advised);
            match self.madvise(addr, len, advice, call) {
                Ok(_) => advised += len,
                Err(errno) if advised == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(advised)
    }

    /// Checks a vector. How many bytes of it count (`import_iovec`).
    fn imported(&self, ranges: impl Iterator<Item = (u64, u64)> + Clone) -> Result<u64, Errno> {
        let mut count = 0;
        for (_, len) in ranges.clone() {
            count += 1;
            if count > MAX_RANGES || len > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
        }
        let mut total = 0;
        for (addr, len) in ranges {
            let counts = len.min(MAX_BYTES - total);
            // Of several, all bytes are looked at, even those that do not count.
            let seen = if count == 1 { counts } else { len };
            if addr.checked_add(seen).is_none_or(|end| end > self.layout.task_size()) {
                return Err(Errno::EFAULT);
            }
            total += counts;
        }
        Ok(total)
    }
}
