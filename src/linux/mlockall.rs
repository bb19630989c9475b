//! mlockall(2), munlockall(2)

use super::PageRange;
use super::abi::{MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, int};
use super::file::{File, Restrictions};
use super::kernel::{Capabilities, Kernel};
use super::limits::Resource;
use super::mlock::UNLOCKABLE;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::vm_flags;
use super::walk::Gaps;
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Errno, RawLock};

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Locks everything that is mapped, or will be: mlockall(2). Returns 0.
    ///
    /// O(n log n). Behind a lock, [`AddrSpace::mlockall`](crate::AddrSpace::mlockall) works in
    /// batches.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: no flag, unknown flags, `MCL_ONFAULT` alone.
    /// - `EPERM`: the caller may lock nothing.
    /// - `ENOMEM`: over the limit.
    ///
    /// ```
    /// use kvma::linux::abi::{MCL_CURRENT, MCL_FUTURE};
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // Three pages are mapped.
    /// space.mlockall(MCL_CURRENT | MCL_FUTURE, &mut NoKernel)?;
    /// assert_ne!(space.inspect(|mm| mm.usage().locked()), 0);
    /// assert_eq!(space.mlockall(0, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mlockall<K: Kernel<F> + ?Sized>(
        &mut self,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        if let Some(lock) = self.begin_mlockall(flags, call.hooks().capabilities())? {
            let all = self.layout.user_space();
            self.lock_all(all, lock, call);
            self.populate_all(all, call);
        }
        Ok(0)
    }

    /// Unlocks everything: munlockall(2). Returns 0, always.
    ///
    /// O(n log n). Behind a lock, [`AddrSpace::munlockall`](crate::AddrSpace::munlockall) works in
    /// batches.
    ///
    /// ```
    /// use kvma::linux::abi::MCL_CURRENT;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // Three pages are mapped.
    /// space.mlockall(MCL_CURRENT, &mut NoKernel)?;
    /// space.munlockall(&mut NoKernel);
    /// assert_eq!(space.inspect(|mm| mm.usage().locked()), 0);
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn munlockall<K: Kernel<F> + ?Sized>(&mut self, call: &mut Call<'_, F, A, K>) -> u64 {
        self.future = VmFlags::empty();
        self.lock_all(self.layout.user_space(), VmFlags::empty(), call);
        0
    }

    /// Checks an mlockall, and sets the lock flags of what will be mapped. Returns those for what
    /// is mapped now, if that is concerned. O(1).
    fn begin_mlockall(&mut self, flags: u64, caps: Capabilities) -> Result<Option<VmFlags>, Errno> {
        let flags = int(flags);
        let known = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT;
        if flags == 0 || flags & !known != 0 || flags == MCL_ONFAULT {
            return Err(Errno::EINVAL);
        }
        if !self.may_lock(caps) {
            return Err(Errno::EPERM);
        }
        if flags & MCL_CURRENT != 0 && !self.may_lock_all(caps) {
            return Err(Errno::ENOMEM);
        }
        let lock = if flags & MCL_ONFAULT != 0 { VmFlags::LOCK } else { VmFlags::LOCKED };
        self.future = if flags & MCL_FUTURE != 0 { lock } else { VmFlags::empty() };
        Ok((flags & MCL_CURRENT != 0).then_some(lock))
    }

    /// Returns `true` if everything that is mapped may be locked.
    fn may_lock_all(&self, caps: Capabilities) -> bool {
        self.usage.total() <= self.limit(Resource::MemLock) || caps.contains(Capabilities::IPC_LOCK)
    }

    /// Locks or unlocks every VMA in a range that can be (`apply_mlockall_flags`).
    fn lock_all<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        lock: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) {
        let _ = self.for_each_vma(range, Gaps::Ignore, call, |mm, vma, part, call| {
            // A VMA that cannot be changed stays as it is.
            let _ = mm.lock_vma(vma, part, lock, call);
            Ok(())
        });
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Locks everything that is mapped, or will be: mlockall(2), as [`Mm::mlockall`], in batches of
    /// at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more: each is locked, and then brought
    /// in. Returns 0.
    ///
    /// Mappings still to come are locked from the first batch on. Of several calls at the same
    /// time, the last one to reach a VMA decides whether it is locked.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mlockall`]. `ENOMEM` also if other threads map so much between two batches
    /// that the next one would exceed the limit on locked memory: the batches before it stay
    /// locked.
    pub fn mlockall<K: Kernel<F> + ?Sized>(
        &self,
        flags: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.check_reentry()?;
        self.lock_in_batches(kernel, |mm, caps| mm.begin_mlockall(flags, caps))?;
        Ok(0)
    }

    /// Unlocks everything: munlockall(2), as [`Mm::munlockall`], in batches of at most
    /// [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are more. Returns 0.
    pub fn munlockall<K: Kernel<F> + ?Sized>(&self, kernel: &mut K) -> u64 {
        // Unlocking is never over a limit.
        let _ = self.lock_in_batches(kernel, |mm, _| {
            mm.future = VmFlags::empty();
            Ok(Some(VmFlags::empty()))
        });
        0
    }

    /// Gives all VMAs the lock flags that `begin` returns, if it returns any. It runs in the first
    /// hold of the lock.
    fn lock_in_batches<K: Kernel<F> + ?Sized>(
        &self,
        kernel: &mut K,
        begin: impl Fn(&mut Mm<F, A>, Capabilities) -> Result<Option<VmFlags>, Errno>,
    ) -> Result<(), Errno> {
        let mut begun = None;
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            let (lock, rest) = match begun {
                Some(begun) => begun,
                None => match begin(mm, call.hooks().capabilities())? {
                    Some(lock) => (lock, mm.layout.user_space()),
                    None => return Ok(Progress::Done),
                },
            };
            let rest = mm.lock_batch(rest, lock, call)?;
            begun = Some((lock, rest));
            Ok(Progress::with_rest(rest))
        })
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Locks the first VMAs in `rest`, as far as they can be, and brings them in; or unlocks them,
    /// if `lock` is empty. Returns what is left of the range.
    fn lock_batch<K: Kernel<F> + ?Sized>(
        &mut self,
        rest: PageRange,
        lock: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<PageRange, Errno> {
        let batch = self.map.first_batch(rest, MAX_VMAS_PER_LOCK_HOLD);
        let caps = call.hooks().capabilities();
        if !lock.is_empty() && !self.may_lock_all(caps) && !self.may_lock_batch(batch) {
            return Err(Errno::ENOMEM);
        }
        self.lock_all(batch, lock, call);
        if !lock.is_empty() {
            self.populate_all(batch, call);
        }
        Ok(PageRange::new(batch.end, rest.end))
    }

    /// Returns `true` if locked memory stays within its limit with everything in `batch`. O(log n +
    /// VMAs).
    fn may_lock_batch(&self, batch: PageRange) -> bool {
        let more = self
            .vmas_in(batch)
            .filter(|(vma, _)| {
                !vm_flags(&vma.attrs()).intersects(UNLOCKABLE | VmFlags::LOCKED)
                    && !vma.data().restrictions().contains(Restrictions::NO_LOCK)
            })
            .fold(0, |sum: u64, (_, pages)| sum.saturating_add(self.layout.bytes(pages)));
        self.usage.locked().saturating_add(more) <= self.limit(Resource::MemLock)
    }
}
