//! `process_madvise(2)`

use super::abi::int;
use super::file::File;
use super::kernel::Kernel;
use super::madvise::Madvise;
use super::mm::{Call, Mm, MmAlloc};
use super::walk::Walk;
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Errno, RawLock};

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
        let mut vector = self.begin_vector(target, ranges.into_iter(), advice, flags)?;
        self.advise_some(&mut vector, usize::MAX, call)?;
        Ok(vector.advised)
    }

    /// Checks what Linux checks before anything is advised.
    fn begin_vector<I: Iterator<Item = (u64, u64)> + Clone>(
        &self,
        target: Target,
        ranges: I,
        advice: u64,
        flags: u64,
    ) -> Result<Vector<I>, Errno> {
        if int(flags) != 0 {
            return Err(Errno::EINVAL);
        }
        let total = self.check_vector(ranges.clone())?;
        if target == Target::Other && !HARMLESS.contains(&int(advice)) {
            return Err(Errno::EINVAL);
        }
        Ok(Vector { ranges, advice, total, advised: 0, is_first: true, open: None })
    }

    /// Goes on with a vector, for at most so many VMAs and ranges.
    ///
    /// # Errors
    ///
    /// The first one, if nothing was advised before.
    fn advise_some<K: Kernel<F> + ?Sized>(
        &mut self,
        vector: &mut Vector<impl Iterator<Item = (u64, u64)>>,
        mut turns: usize,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Progress, Errno> {
        match self.try_advise_some(vector, &mut turns, call) {
            Err(errno) if vector.advised == 0 => Err(errno),
            Err(_) => Ok(Progress::Done),
            progress => progress,
        }
    }

    fn try_advise_some<K: Kernel<F> + ?Sized>(
        &mut self,
        vector: &mut Vector<impl Iterator<Item = (u64, u64)>>,
        turns: &mut usize,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Progress, Errno> {
        loop {
            if vector.open.is_none() {
                if vector.advised < vector.total && *turns == 0 {
                    return Ok(Progress::More);
                }
                *turns = turns.saturating_sub(1);
                let Some((addr, len)) = vector.next() else { return Ok(Progress::Done) };
                let advice = Madvise::from_number(vector.advice)?;
                let range = self.layout.checked_range(addr, len)?;
                vector.open = Some((Walk::new(range, advice.gaps()), advice, len));
            }
            let Some((walk, advice, len)) = &mut vector.open else { return Ok(Progress::Done) };
            let (advice, len) = (*advice, *len);
            let progress = self.walk_for(walk, turns, call, |mm, vma, part, call| {
                mm.advise_vma(advice, vma, part, call)
            })?;
            if progress == Progress::More {
                return Ok(Progress::More);
            }
            vector.open = None;
            vector.advised = vector.advised.saturating_add(len);
        }
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

/// A vector of ranges that is being advised on.
struct Vector<I> {
    ranges: I,
    advice: u64,
    /// The bytes that count.
    total: u64,
    /// The bytes of the ranges that are done.
    advised: u64,
    is_first: bool,
    /// The walk over the range whose turn it is, and its length.
    open: Option<(Walk, Madvise, u64)>,
}

impl<I: Iterator<Item = (u64, u64)>> Vector<I> {
    /// Returns the next range.
    fn next(&mut self) -> Option<(u64, u64)> {
        while self.advised < self.total {
            let is_first = core::mem::replace(&mut self.is_first, false);
            let (addr, len) = self.ranges.next()?;
            // An empty range is looked at only if it is the first (`iov_iter_advance` skips it).
            if len > 0 || is_first {
                return Some((addr, len.min(self.total.saturating_sub(self.advised))));
            }
        }
        None
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Advises on each range of a vector: `process_madvise(2)`, as [`Mm::process_madvise`], in
    /// batches of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs and ranges if there are more. Returns the
    /// bytes advised.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::process_madvise`].
    pub fn process_madvise<K: Kernel<F> + ?Sized>(
        &self,
        target: Target,
        ranges: impl IntoIterator<Item = (u64, u64), IntoIter: Clone>,
        advice: u64,
        flags: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.check_reentry()?;
        let (ranges, mut begun) = (ranges.into_iter(), None);
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            if begun.is_none() {
                begun = Some(mm.begin_vector(target, ranges.clone(), advice, flags)?);
            }
            let Some(vector) = &mut begun else { return Ok(Progress::Done) };
            if vector.open.is_none()
                && let Some((addr, _)) = vector.ranges.clone().next()
            {
                self.aim(mm, addr);
            }
            mm.advise_some(vector, MAX_VMAS_PER_LOCK_HOLD, call)
        })?;
        Ok(begun.map_or(0, |vector| vector.advised))
    }
}
