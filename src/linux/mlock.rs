//! mlock(2), mlock2(2), munlock(2)

use super::PageRange;
use super::abi::{MLOCK_ONFAULT, int};
use super::file::{File, Restrictions};
use super::kernel::{Capabilities, Kernel};
use super::limits::Resource;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::vm_flags;
use super::vma_view::VmaView;
use super::walk::{Gaps, Walk};
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Errno, RawLock};

/// VMAs with one of these flags are never locked, nor are those of files that forbid it.
pub(super) const UNLOCKABLE: VmFlags =
    VmFlags::SPECIAL.union(VmFlags::HUGE_TLB).union(VmFlags::DROPPABLE);

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Locks a range, and brings its pages in: mlock(2). Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`mlock2`](Self::mlock2).
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages. Any byte locks its page.
    /// space.mlock(at + 100, 1, &mut NoKernel)?;
    /// assert_eq!(space.inspect(|mm| mm.usage().locked()), 0x1000);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mlock<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.lock_range(addr, len, VmFlags::LOCKED, call)
    }

    /// Locks a range: mlock2(2). Returns 0.
    ///
    /// The range is extended to whole pages. What lies before the first gap is locked, and so are
    /// pages that then cannot be brought in.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unknown flags, a range that wraps, part of special memory.
    /// - `EPERM`: the caller may lock nothing.
    /// - `ENOMEM`: over the limit, a gap, memory without access.
    /// - Those of the kernel. `EAGAIN` means that it had no memory; `EFAULT` becomes `ENOMEM`.
    ///
    /// ```
    /// use kvma::linux::abi::MLOCK_ONFAULT;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// // They are locked when they are touched.
    /// space.mlock2(at, 0x3000, MLOCK_ONFAULT, &mut NoKernel)?;
    /// assert_eq!(space.mlock2(at, 0x3000, 8, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mlock2<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.lock_range(addr, len, lock_flags(flags)?, call)
    }

    /// Unlocks a range: munlock(2). Returns 0.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: a range that wraps, part of special memory.
    /// - `ENOMEM`: a gap; what lies before it is unlocked.
    /// - Those of the kernel.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// space.mlock(at, 0x3000, &mut NoKernel)?;
    /// space.munlock(at, 0x3000, &mut NoKernel)?;
    /// assert_eq!(space.inspect(|mm| mm.usage().locked()), 0);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn munlock<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.apply_lock(self.touched_range(addr, len), VmFlags::empty(), call)?;
        Ok(0)
    }

    /// Returns the pages that a range touches. The length is rounded up modulo 2^64, but the range
    /// may reach beyond 2^64: that is refused later.
    fn touched_range(&self, addr: u64, len: u64) -> PageRange {
        let start = self.layout.page_down(addr);
        self.layout.range(start, self.layout.page_up(len.wrapping_add(addr - start)))
    }

    /// Locks, and brings in (`do_mlock`).
    fn lock_range<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        lock: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let range = self.begin_lock(addr, len, call.hooks().capabilities())?;
        self.apply_lock(range, lock, call)?;
        self.populate(range, call).map_err(populate_error)?;
        Ok(0)
    }

    /// Returns the pages of a range that may be locked.
    ///
    /// # Errors
    ///
    /// `EPERM`, `ENOMEM` for the limit.
    #[inline(always)]
    fn begin_lock(&self, addr: u64, len: u64, caps: Capabilities) -> Result<PageRange, Errno> {
        if !self.may_lock(caps) {
            return Err(Errno::EPERM);
        }
        let range = self.touched_range(addr, len);
        if !caps.contains(Capabilities::IPC_LOCK) {
            let limit = self.limit(Resource::MemLock);
            let (len, locked) = (self.layout.bytes(range.len()), self.usage.locked());
            let fits = |others: u64| others.saturating_add(len) <= limit;
            // What is locked there already is counted only if that decides.
            if !fits(locked) && !fits(locked.saturating_sub(self.locked_in(range))) {
                return Err(Errno::ENOMEM);
            }
        }
        Ok(range)
    }

    /// Returns the walk that locks a range, and the one that brings its pages in.
    fn begin_walks<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(Walk, Walk), Errno> {
        let range = self.begin_lock(addr, len, call.hooks().capabilities())?;
        let range = self.lockable(range)?;
        Ok((Walk::new(range, Gaps::Refuse), Walk::new(range, Gaps::Ignore)))
    }

    /// Returns the bytes of a range that are locked already (`count_mm_mlocked_page_nr`).
    fn locked_in(&self, range: PageRange) -> u64 {
        self.vmas_in(range)
            .filter(|(vma, _)| vm_flags(&vma.attrs()).contains(VmFlags::LOCKED))
            .map(|(_, pages)| self.layout.bytes(pages))
            .sum()
    }

    /// Locks or unlocks up to the first gap (`apply_vma_lock_flags`).
    #[inline]
    fn apply_lock<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        lock: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let range = self.lockable(range)?;
        self.for_each_vma(range, Gaps::Refuse, call, |mm, vma, part, call| {
            mm.lock_vma(vma, part, lock, call)
        })
    }

    /// Returns the range, if it lies in user space.
    #[inline(always)]
    fn lockable(&self, range: PageRange) -> Result<PageRange, Errno> {
        // The last page of the 64 bits is none of user space's, so that its end need not count.
        if range.end > self.layout.pages(u64::MAX) { Err(Errno::EINVAL) } else { Ok(range) }
    }

    /// Returns `true` if locked memory stays within its limit with a part of one VMA. Others may
    /// have locked more since the whole range was checked.
    fn may_lock_part(&self, vma: &VmaView, part: PageRange, caps: Capabilities) -> bool {
        let with_part = self.usage.locked().saturating_add(self.layout.bytes(part.len()));
        vma.has(VmFlags::LOCKED)
            || caps.contains(Capabilities::IPC_LOCK)
            || with_part <= self.limit(Resource::MemLock)
    }

    /// Locks or unlocks a part of one VMA (`mlock_fixup`). Passes over what cannot be locked.
    #[inline]
    pub(super) fn lock_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        lock: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if vma.has_any(UNLOCKABLE) || vma.forbids(Restrictions::NO_LOCK) {
            return Ok(());
        }
        self.set_flags(vma, part, (vma.flags - VmFlags::LOCK) | lock, call)
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Locks a range, and brings its pages in: mlock(2), as [`Mm::mlock`], in batches. See
    /// [`mlock2`](Self::mlock2). Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`mlock2`](Self::mlock2).
    pub fn mlock<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.lock_and_populate(addr, len, VmFlags::LOCKED, kernel)
    }

    /// Locks a range: mlock2(2), as [`Mm::mlock2`], in batches of at most
    /// [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more. All are locked, and then brought in.
    /// Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mlock2`]. `ENOMEM` also if other threads lock so much between two batches
    /// that the next one would exceed the limit: the batches before it stay locked.
    pub fn mlock2<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        flags: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.lock_and_populate(addr, len, lock_flags(flags)?, kernel)
    }

    /// Unlocks a range: munlock(2), as [`Mm::munlock`], in batches of at most
    /// [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more. Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::munlock`].
    pub fn munlock<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.walk_in_batches(
            addr,
            kernel,
            |mm, _| Ok(Walk::new(mm.lockable(mm.touched_range(addr, len))?, Gaps::Refuse)),
            |mm, vma, part, call| mm.lock_vma(vma, part, VmFlags::empty(), call),
        )
    }

    fn lock_and_populate<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        lock: VmFlags,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.check_reentry()?;
        let mut begun = None;
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            let is_first = begun.is_none();
            if is_first {
                self.aim(mm, addr);
            }
            let (locking, populating) = match &mut begun {
                Some(walks) => walks,
                None => begun.insert(mm.begin_walks(addr, len, call)?),
            };
            if !locking.is_at_end() {
                let progress =
                    mm.walk(locking, MAX_VMAS_PER_LOCK_HOLD, call, |mm, vma, part, call| {
                        if !mm.may_lock_part(vma, part, call.hooks().capabilities()) {
                            return Err(Errno::ENOMEM);
                        }
                        mm.lock_vma(vma, part, lock, call)
                    })?;
                if progress == Progress::More || !is_first {
                    return Ok(Progress::More);
                }
            }
            let populated = mm.walk(populating, MAX_VMAS_PER_LOCK_HOLD, call, Mm::populate_vma);
            populated.map_err(populate_error)
        })
        .map(|()| 0)
    }
}

/// Returns the flags of VMAs for those of mlock2.
fn lock_flags(flags: u64) -> Result<VmFlags, Errno> {
    match int(flags) {
        0 => Ok(VmFlags::LOCKED),
        MLOCK_ONFAULT => Ok(VmFlags::LOCK),
        _ => Err(Errno::EINVAL),
    }
}

/// Returns POSIX' error for what may go wrong when pages are brought in
/// (`__mlock_posix_error_return`).
fn populate_error(errno: Errno) -> Errno {
    if errno == Errno::EFAULT { Errno::ENOMEM } else { errno }
}
