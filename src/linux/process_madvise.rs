//! `process_madvise(2)`

use super::abi::int;
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use crate::Errno;

/// Whose address space a `process_madvise` call is about.
///
/// ```
/// use kvma::linux::Target;
/// const MADV_DONTNEED: u64 = 4;
/// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
/// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// # let at = space.mmap(memory, &mut NoKernel)?;
/// // `at` is the address of three pages. Nobody may drop those of another process.
/// let mut advise =
///     |target| space.process_madvise(target, [(at, 0x1000)], MADV_DONTNEED, 0, &mut NoKernel);
/// assert_eq!(advise(Target::Own), Ok(0x1000));
/// assert_eq!(advise(Target::Other), Err(Errno::EINVAL));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller's own.
    Own,
    /// Another process's. The kernel has checked that the caller may do that (`PTRACE_MODE_READ`
    /// and `CAP_SYS_NICE`).
    Other,
}

/// Advice that changes nothing a program can see, so that it may be given to other processes
/// (`process_madvise_remote_valid`): WILLNEED, COLD, PAGEOUT, COLLAPSE.
const HARMLESS: [u64; 4] = [3, 20, 21, 25];

/// The largest number of ranges in a vector (`UIO_MAXIOV`).
const MAX_RANGES: usize = 1024;
/// The largest number of bytes in a vector (`MAX_RW_COUNT`).
const MAX_BYTES: u64 = 0x7fff_f000;

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Advises on each range (address, length) of a vector: `process_madvise(2)`. Returns the bytes
    /// advised.
    ///
    /// The kernel has copied the vector from the caller's memory. The call ends at the first error,
    /// which it returns if nothing was advised before. Nor does it go beyond 2 GiB less a page: the
    /// rest of the vector is left out.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: flags, more than 1024 ranges, a length above 2^63, advice that others may not
    ///   give.
    /// - `EFAULT`: a range that leaves user space, before anything is advised.
    /// - Those of [`madvise`](Self::madvise).
    ///
    /// ```
    /// use kvma::linux::Target;
    /// const MADV_COLD: u64 = 20;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// let ranges = [(at, 0x1000), (at + 0x2000, 0x1000)];
    /// let advised = space.process_madvise(Target::Other, ranges, MADV_COLD, 0, &mut NoKernel)?;
    /// assert_eq!(advised, 0x2000);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn process_madvise<K: Kernel<F> + ?Sized>(
        &mut self,
        target: Target,
        ranges: impl IntoIterator<Item = (u64, u64), IntoIter: Clone>,
        advice: u64,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        if int(flags) != 0 {
            return Err(Errno::EINVAL);
        }
        let ranges = ranges.into_iter();
        let total = self.check_vector(ranges.clone())?;
        if target == Target::Other && !HARMLESS.contains(&int(advice)) {
            return Err(Errno::EINVAL);
        }
        let mut advised = 0u64;
        for (index, (addr, len)) in ranges.enumerate() {
            if advised == total {
                break;
            }
            // An empty range is looked at only if it is the first (`iov_iter_advance` skips it).
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

    /// Checks a vector, and returns how many bytes of it count (`import_iovec`).
    fn check_vector(&self, ranges: impl Iterator<Item = (u64, u64)> + Clone) -> Result<u64, Errno> {
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
            // Of several ranges, all bytes are checked, even those that do not count.
            let checked = if count == 1 { counts } else { len };
            if addr.checked_add(checked).is_none_or(|end| end > self.layout.task_size()) {
                return Err(Errno::EFAULT);
            }
            total += counts;
        }
        Ok(total)
    }
}
