//! mincore(2)

use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::page_op::PageOp;
use super::walk::{Gaps, Walk};
use crate::{AddrSpace, Errno, RawLock};

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Reports which pages of a range are in memory: mincore(2). Returns 0.
    ///
    /// The kernel gets [`PageOp::Residency`] for each VMA's part of the range, in ascending order
    /// and without gaps between, and fills in the vector.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unaligned.
    /// - `ENOMEM`: beyond user space, or a gap. What lies before the gap has been reported.
    /// - Those of the kernel, such as `EFAULT` for the vector.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// // Which of them are in memory, the kernel answers.
    /// assert_eq!(space.mincore(at, 0x3000, &mut NoKernel), Ok(0));
    /// assert_eq!(space.mincore(at, 0x4000, &mut NoKernel), Err(Errno::ENOMEM)); // a gap
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mincore<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let walk = self.begin_mincore(addr, len)?;
        self.walk_to_end(walk, call, |mm, _, part, call| {
            mm.page_op(PageOp::Residency, part, call)
        })?;
        Ok(0)
    }

    /// Returns the walk to make.
    ///
    /// # Errors
    ///
    /// `EINVAL` and `ENOMEM`, of the range alone.
    fn begin_mincore(&self, addr: u64, len: u64) -> Result<Walk, Errno> {
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr.checked_add(len).is_none_or(|end| end > self.layout.task_size()) {
            return Err(Errno::ENOMEM);
        }
        let range = self.layout.range(addr, self.layout.page_up(len));
        Ok(Walk::new(range, Gaps::Refuse))
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Reports which pages of a range are in memory: mincore(2), as [`Mm::mincore`], in batches of
    /// at most [`MAX_VMAS_PER_LOCK_HOLD`](crate::addr_space::MAX_VMAS_PER_LOCK_HOLD) VMAs if there
    /// are more. Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::mincore`].
    pub fn mincore<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        self.walk_in_batches(
            addr,
            kernel,
            |mm, _| mm.begin_mincore(addr, len),
            |mm, _, part, call| mm.page_op(PageOp::Residency, part, call),
        )
    }
}
