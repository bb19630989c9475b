//! mincore(2)

use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::page_op::PageOp;
use super::vma_view::Gaps;
use crate::Errno;

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
    pub fn mincore<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr.checked_add(len).is_none_or(|end| end > self.layout.task_size()) {
            return Err(Errno::ENOMEM);
        }
        let range = self.layout.range(addr, self.layout.page_up(len));
        self.for_each_vma(range, Gaps::Refuse, call, |mm, _, part, call| {
            mm.page_op(PageOp::Residency, part, call)
        })?;
        Ok(0)
    }
}
