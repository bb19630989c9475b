//! The system calls of [`Mm`] on an [`AddrSpace`]: under its lock, and with nodes taken before it.
//!
//! Those that hold the lock once are here. Those that work in batches, and fork, are beside the
//! call on [`Mm`].
//!
//! The checks that Linux makes of the whole range come before the first batch. Each later batch
//! checks again what others may have changed since, so that nothing is ever done that Linux would
//! refuse, and ends the call with Linux's error if so; then what was done stays. With at most
//! [`MAX_VMAS_PER_LOCK_HOLD`](crate::addr_space::MAX_VMAS_PER_LOCK_HOLD) VMAs there is one batch,
//! and it is the call on [`Mm`] itself, in every respect.

#[cfg(all(test, feature = "alloc", not(loom)))]
mod growth;
#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;

use super::exec::Install;
use super::fault::{Fault, FaultAction};
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::mmap::Mmap;
use super::shmat::Shmat;
use crate::addr_space::NODES_PER_OPERATION;
use crate::{AddrSpace, Errno, RawLock};

/// The calls that hold the lock once. They must not be called from hooks or where the lock is held:
/// they hang, or if the lock knows its holder return `EDEADLK` (and panic in debug builds).
impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Runs one call.
    fn call<K: Kernel<F> + ?Sized, R>(
        &self,
        kernel: &mut K,
        run: impl FnOnce(&mut Mm<F, A>, &mut Call<'_, F, A, K>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.check_reentry()?;
        self.update(NODES_PER_OPERATION, kernel, run)
    }

    /// Runs one call, which begins at `addr`.
    #[inline]
    fn call_at<K: Kernel<F> + ?Sized, R>(
        &self,
        addr: u64,
        kernel: &mut K,
        run: impl FnOnce(&mut Mm<F, A>, &mut Call<'_, F, A, K>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.call(kernel, |mm, call| {
            self.aim(mm, addr);
            run(mm, call)
        })
    }

    /// Maps a file or anonymous memory: mmap(2). Returns the address. See [`Mm::mmap`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mmap`].
    pub fn mmap<K: Kernel<F> + ?Sized>(&self, args: Mmap<F>, kernel: &mut K) -> Result<u64, Errno> {
        self.call_at(args.addr, kernel, |mm, call| mm.mmap(args, call))
    }

    /// Attaches a segment of System V shared memory: shmat(2). Returns the address. See
    /// [`Mm::shmat`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::shmat`].
    pub fn shmat<K: Kernel<F> + ?Sized>(
        &self,
        args: Shmat<F>,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(args.addr, kernel, |mm, call| mm.shmat(args, call))
    }

    /// Detaches a segment of System V shared memory: shmdt(2). See [`Mm::shmdt`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::shmdt`].
    pub fn shmdt<K: Kernel<F> + ?Sized>(&self, addr: u64, kernel: &mut K) -> Result<u64, Errno> {
        self.call_at(addr, kernel, |mm, call| mm.shmdt(addr, call))
    }

    /// Changes the protection of a range: mprotect(2). See [`Mm::mprotect`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mprotect`].
    pub fn mprotect<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        prot: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(addr, kernel, |mm, call| mm.mprotect(addr, len, prot, call))
    }

    /// Changes the protection of a range and tags it with a protection key: `pkey_mprotect(2)`. See
    /// [`Mm::pkey_mprotect`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::pkey_mprotect`].
    pub fn pkey_mprotect<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        prot: u64,
        key: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(addr, kernel, |mm, call| mm.pkey_mprotect(addr, len, prot, key, call))
    }

    /// Moves, shrinks or extends a mapping: mremap(2). Returns the new address. See [`Mm::mremap`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mremap`].
    pub fn mremap<K: Kernel<F> + ?Sized>(
        &self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(old_addr, kernel, |mm, call| {
            mm.mremap(old_addr, old_len, new_len, flags, new_addr, call)
        })
    }

    /// Moves the end of the heap to `brk`: brk(2). Returns where it is now. See [`Mm::brk`].
    pub fn brk<K: Kernel<F> + ?Sized>(&self, brk: u64, kernel: &mut K) -> u64 {
        self.update(NODES_PER_OPERATION, kernel, |mm, call| {
            self.aim(mm, mm.brk.min(brk));
            mm.brk(brk, call)
        })
    }

    /// Moves the end of the heap by `increment` bytes: sbrk(3). Returns where it was. See
    /// [`Mm::sbrk`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::sbrk`].
    pub fn sbrk<K: Kernel<F> + ?Sized>(
        &self,
        increment: i64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call(kernel, |mm, call| {
            self.aim(mm, mm.brk);
            mm.sbrk(increment, call)
        })
    }

    /// Seals a range against later changes: mseal(2). See [`Mm::mseal`].
    ///
    /// In one hold of the lock, for as many VMAs as there are: Linux looks for gaps and seals
    /// within one `mmap_write_lock` (`do_mseal`), so that a gap means that nothing was sealed.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mseal`].
    pub fn mseal<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        flags: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(addr, kernel, |mm, call| mm.mseal(addr, len, flags, call))
    }

    /// Names the anonymous memory in a range: `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`. See
    /// [`Mm::set_anon_name`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::set_anon_name`].
    pub fn set_anon_name<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        name: Option<&F>,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.call_at(addr, kernel, |mm, call| mm.set_anon_name(addr, len, name, call))
    }

    /// Allocates a protection key: `pkey_alloc(2)`. See [`Mm::pkey_alloc`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::pkey_alloc`].
    pub fn pkey_alloc(&self, flags: u64, rights: u64) -> Result<u64, Errno> {
        self.check_reentry()?;
        self.lock_for_change().pkey_alloc(flags, rights)
    }

    /// Frees a protection key: `pkey_free(2)`. See [`Mm::pkey_free`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::pkey_free`].
    pub fn pkey_free(&self, key: u64) -> Result<u64, Errno> {
        self.check_reentry()?;
        self.lock_for_change().pkey_free(key)
    }

    /// Puts a VMA of the kernel's own into a free range. See [`Mm::install`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::install`].
    pub fn install<K: Kernel<F> + ?Sized>(
        &self,
        vma: Install<F>,
        kernel: &mut K,
    ) -> Result<(), Errno> {
        self.call_at(vma.start, kernel, |mm, call| mm.install(vma, call))
    }

    /// Decides what a page fault comes to, and extends the stack if need be. See [`Mm::fault`].
    ///
    /// For the faults that [`Fault::check_access`] cannot decide without the lock.
    pub fn fault<K: Kernel<F> + ?Sized>(&self, fault: &Fault, kernel: &mut K) -> FaultAction {
        self.update(NODES_PER_OPERATION, kernel, |mm, call| {
            self.aim(mm, fault.addr());
            mm.fault(fault, call)
        })
    }

    /// Extends the stack above `addr` down to the page of `addr`. See [`Mm::grow_stack`].
    ///
    /// # Errors
    ///
    /// Those of [`Mm::grow_stack`].
    pub fn grow_stack<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        kernel: &mut K,
    ) -> Result<(), Errno> {
        self.call_at(addr, kernel, |mm, call| mm.grow_stack(addr, call))
    }

    /// Notes that a private page of the VMA at `addr` has been written. See [`Mm::note_write`].
    pub fn note_write(&self, addr: u64) {
        let mut mm = self.lock_for_change();
        self.aim(&mm, addr);
        mm.note_write(addr);
    }
}
