//! munmap(2), and removing a range as the first step of other calls.

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::limits::Usage;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::vm_flags;
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Errno, RawLock};

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Unmaps a range: munmap(2) (`do_vmi_munmap`). Returns 0. Gaps are fine.
    ///
    /// Splits at the ends of the range that were made before an error stay, as in Linux.
    ///
    /// O(log n + VMAs removed). Behind a lock, [`AddrSpace::munmap`](crate::AddrSpace::munmap)
    /// works in batches.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unaligned, empty, beyond user space, or part of special memory.
    /// - `ENOMEM`: too many VMAs, no node.
    /// - `EPERM`: sealed.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// space.munmap(at + 0x1000, 0x1000, &mut NoKernel)?;
    /// assert_eq!(space.inspect(|mm| mm.map_count()), 2);
    /// // Gaps are fine, addresses within a page are not.
    /// assert_eq!(space.munmap(at, 0x3000, &mut NoKernel), Ok(0));
    /// assert_eq!(space.munmap(at + 1, 0x1000, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn munmap<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.unmap(self.layout.user_range(addr, len)?, call)?;
        Ok(0)
    }

    /// Removes what is mapped in `range`: munmap without the checks of its arguments
    /// (`do_vmi_align_munmap`).
    pub(super) fn unmap<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        self.split_for_removal(range, call)?;
        self.remove(range, self.usage_without(range), 0, call)
    }

    /// Gets a range ready to be removed (`vms_gather_munmap_vmas`): checks that nothing in it is
    /// sealed, and splits VMAs at its ends. On an error, the splits made before stay, as in Linux.
    ///
    /// O(log n), unless something is sealed somewhere: then it looks at all VMAs in the range.
    pub(super) fn split_for_removal<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let Some(first) = self.first_in(range) else { return Ok(()) };
        if first.range.start < range.start {
            // The number of VMAs may exceed its limit by one while a range is being removed, but
            // not for a gap in the middle of a VMA.
            if range.end < first.range.end && self.is_full() {
                return Err(Errno::ENOMEM);
            }
            if first.has(VmFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            self.split(&first, range.start, call)?;
        }
        if self.has_seal(range) {
            return Err(Errno::EPERM);
        }
        // Most ranges end where their first VMA does.
        if first.range.end == range.end {
            return Ok(());
        }
        match self.vma_below(range.end).filter(|last| last.range.end > range.end) {
            Some(last) => self.split(&last, range.end, call),
            None => Ok(()),
        }
    }

    /// Removes a range that is [ready for it](Self::split_for_removal) and not empty. `left` is the
    /// [usage without it](Self::usage_without). Of the bytes charged there, `kept` stay charged,
    /// for what comes in their place.
    pub(super) fn remove<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        left: Usage,
        kept: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let (start, len) = (self.layout.bytes(range.start), self.layout.bytes(range.len()));
        self.map.unmap(start, len, call)?;
        self.set_usage(left, kept, call);
        Ok(())
    }

    /// Removes the first `limit` VMAs in `rest`, and returns what is left of the range.
    ///
    /// The hooks are asked to prepare only where another thread has mapped across an end of the
    /// batch meanwhile, and then there must be nodes for the split.
    pub(super) fn remove_batch<K: Kernel<F> + ?Sized>(
        &mut self,
        rest: PageRange,
        limit: usize,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<PageRange, Errno> {
        let left = self.usage_without(self.map.first_batch(rest, limit));
        let (_, rest) = self.map.unmap_batch(rest, limit, call)?;
        self.set_usage(left, 0, call);
        Ok(rest)
    }

    /// Removes what this call itself has put into `range`, and leaves its charge to the caller.
    ///
    /// It has not merged with anything, so that no hook is asked and no node needed: nothing can
    /// refuse it.
    pub(super) fn take_back<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) {
        let left = self.usage_without(range);
        if self.map.unmap_batch(range, usize::MAX, call).is_ok() {
            self.usage = left;
        }
    }

    /// Returns `true` if something in a range is sealed. O(1) while nothing is sealed anywhere,
    /// else O(log n + VMAs).
    fn has_seal(&self, range: PageRange) -> bool {
        let is_sealed = |attrs| vm_flags(&attrs).contains(VmFlags::SEALED);
        self.usage.sealed() > 0 && self.vmas_in(range).any(|(vma, _)| is_sealed(vma.attrs()))
    }

    /// Returns what is in use outside `range`. O(log n + VMAs).
    pub(super) fn usage_without(&self, range: PageRange) -> Usage {
        let mut usage = self.usage;
        for (vma, pages) in self.vmas_in(range) {
            usage.remove(vm_flags(&vma.attrs()), self.layout.bytes(pages));
        }
        usage
    }

    /// Notes what is left in use, and uncharges the rest but for `kept` bytes.
    fn set_usage<K: Kernel<F> + ?Sized>(
        &mut self,
        left: Usage,
        kept: u64,
        call: &mut Call<'_, F, A, K>,
    ) {
        let removed = self.usage.committed().saturating_sub(left.committed());
        let uncharged = removed.saturating_sub(kept);
        self.usage = left;
        if uncharged > 0 {
            call.hooks().uncharge(uncharged);
        }
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Unmaps a range: munmap(2), as [`Mm::munmap`], in batches of at most
    /// [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more, each with a flush of its own. Returns 0.
    ///
    /// Seals, limits and splits are checked for the whole range first, and `prepare` is called for
    /// the VMAs at its two ends (for all VMAs if there is only one batch). While nothing in the
    /// program is sealed, the first hold of the lock costs no more than any other; else it looks at
    /// every VMA in the range.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::munmap`]. Of several batches, each but the first answers for what other
    /// threads have done to the rest of the range meanwhile: `EPERM` if they have sealed something
    /// in it, `EINVAL` if special memory or a huge page of theirs lies across its end, `ENOMEM` if
    /// there are too many VMAs for a gap in one of theirs. The batches before it are gone then; it
    /// and those above stay.
    pub fn munmap<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.check_reentry()?;
        let mut rest = None;
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            let left = match rest {
                None => {
                    self.aim(mm, addr);
                    let left = mm.begin_munmap(addr, len, call)?;
                    self.note_gap(mm, addr);
                    left
                }
                Some(rest) => mm.munmap_batch(rest, call)?,
            };
            rest = Some(left);
            Ok(Progress::with_rest(left))
        })
        .map(|()| 0)
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Does everything that may fail, and the first batch. Returns what is left of the range.
    fn begin_munmap<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<PageRange, Errno> {
        let range = self.layout.user_range(addr, len)?;
        if self.map.first_batch(range, MAX_VMAS_PER_LOCK_HOLD) == range {
            self.unmap(range, call)?;
            return Ok(PageRange::new(range.end, range.end));
        }
        self.split_for_removal(range, call)?;
        self.map.prepare_ends(range, call)?;
        self.remove_batch(range, MAX_VMAS_PER_LOCK_HOLD, call)
    }

    /// Does the next batch, if it may be removed. Returns what is left of the range.
    fn munmap_batch<K: Kernel<F> + ?Sized>(
        &mut self,
        rest: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<PageRange, Errno> {
        self.check_batch(self.map.first_batch(rest, MAX_VMAS_PER_LOCK_HOLD))?;
        self.remove_batch(rest, MAX_VMAS_PER_LOCK_HOLD, call)
    }

    /// Checks a batch that others may have changed since the range was split at its ends.
    fn check_batch(&self, batch: PageRange) -> Result<(), Errno> {
        if self.has_seal(batch) {
            return Err(Errno::EPERM);
        }
        let across_start = self.first_in(batch).filter(|vma| vma.range.start < batch.start);
        let across_end = self.vma_below(batch.end).filter(|vma| vma.range.end > batch.end);
        if across_start.is_some_and(|vma| !vma.may_split(batch.start))
            || across_end.is_some_and(|vma| !vma.may_split(batch.end))
        {
            return Err(Errno::EINVAL);
        }
        if across_start.is_some_and(|vma| vma.range.end > batch.end) && self.is_full() {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}
