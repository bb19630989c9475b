//! msync(2)

use super::PageRange;
use super::abi::{MS_ASYNC, MS_INVALIDATE, MS_SYNC, int};
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::page_op::PageOp;
use super::vm_flags::VmFlags;
use super::vma_view::VmaView;
use super::walk::{Gaps, Walk};
use crate::{AddrSpace, Errno, RawLock};

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Writes shared mappings back to their objects: msync(2). Returns 0.
    ///
    /// With `MS_SYNC` the kernel gets [`PageOp::WriteBack`] for each part of a shared object, in
    /// ascending order. The VMAs stay as they are.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unknown flags, both `MS_ASYNC` and `MS_SYNC`, unaligned.
    /// - `ENOMEM`: a range that wraps, or a gap; with `MS_ASYNC` alone at once, else after the rest
    ///   has been done.
    /// - `EBUSY`: `MS_INVALIDATE` on locked memory.
    /// - Those of the kernel.
    ///
    /// ```
    /// use kvma::linux::abi::{MS_ASYNC, MS_SYNC};
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// assert_eq!(space.msync(at, 0x3000, MS_SYNC, &mut NoKernel), Ok(0));
    /// assert_eq!(space.msync(at, 0x3000, MS_SYNC | MS_ASYNC, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn msync<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let flags = int(flags);
        let walk = self.begin_msync(addr, len, flags)?;
        self.walk_to_end(walk, call, |mm, vma, part, call| mm.sync_vma(flags, vma, part, call))?;
        Ok(0)
    }

    /// Returns the walk to make.
    ///
    /// # Errors
    ///
    /// `EINVAL` and `ENOMEM`, of the arguments alone.
    fn begin_msync(&self, addr: u64, len: u64, flags: u64) -> Result<Walk, Errno> {
        let both = MS_ASYNC | MS_SYNC;
        if flags & !(both | MS_INVALIDATE) != 0
            || !self.layout.is_aligned(addr)
            || flags & both == both
        {
            return Err(Errno::EINVAL);
        }
        let range = self.layout.rounded_range(addr, len).ok_or(Errno::ENOMEM)?;
        Ok(Walk::new(range, if flags == MS_ASYNC { Gaps::Refuse } else { Gaps::Report }))
    }

    /// Writes a part of one VMA back.
    fn sync_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        flags: u64,
        vma: &VmaView,
        part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if flags & MS_INVALIDATE != 0 && vma.has(VmFlags::LOCKED) {
            return Err(Errno::EBUSY);
        }
        if flags & MS_SYNC != 0 && vma.is_file() && vma.has(VmFlags::SHARED) {
            return self.page_op(PageOp::WriteBack, part, call);
        }
        Ok(())
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Writes shared mappings back to their objects: msync(2), as [`Mm::msync`], in batches of at
    /// most [`MAX_VMAS_PER_LOCK_HOLD`](crate::addr_space::MAX_VMAS_PER_LOCK_HOLD) VMAs if there are
    /// more. Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::msync`].
    pub fn msync<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        flags: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        let flags = int(flags);
        self.walk_in_batches(
            addr,
            kernel,
            |mm, _| mm.begin_msync(addr, len, flags),
            |mm, vma, part, call| mm.sync_vma(flags, vma, part, call),
        )
    }
}
