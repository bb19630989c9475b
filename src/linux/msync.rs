//! msync(2)

use super::abi::{MS_ASYNC, MS_INVALIDATE, MS_SYNC, int};
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::page_op::PageOp;
use super::vm_flags::VmFlags;
use super::vma_view::Gaps;
use crate::Errno;

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
        let both = MS_ASYNC | MS_SYNC;
        if flags & !(both | MS_INVALIDATE) != 0
            || !self.layout.is_aligned(addr)
            || flags & both == both
        {
            return Err(Errno::EINVAL);
        }
        let range = self.layout.rounded_range(addr, len).ok_or(Errno::ENOMEM)?;
        let gaps = if flags == MS_ASYNC { Gaps::Refuse } else { Gaps::Report };
        self.for_each_vma(range, gaps, call, |mm, vma, part, call| {
            if flags & MS_INVALIDATE != 0 && vma.has(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            if flags & MS_SYNC != 0 && vma.is_file() && vma.has(VmFlags::SHARED) {
                return mm.page_op(PageOp::WriteBack, part, call);
            }
            Ok(())
        })?;
        Ok(0)
    }
}
