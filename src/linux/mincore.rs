//! mincore(2)

use super::file::File;
use super::kernel::{Kernel, PageOp};
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mincore(2). Returns 0. The owner hears [`PageOp::Residency`] for each VMA's part of the
    /// range, in order and without holes between, and fills in the vector.
    ///
    /// # Errors
    /// `EINVAL`: unaligned. `ENOMEM`: beyond user space, or a hole; what lies before it has been
    /// reported. And what the owner says, such as `EFAULT` for the vector.
    pub fn mincore<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let task_size = self.layout.task_size();
        let end = addr.checked_add(len).filter(|&end| end <= task_size).ok_or(Errno::ENOMEM)?;
        let end = self.layout.page_up(end);
        let mut at = addr;
        while at < end {
            let to = self.at(at).ok_or(Errno::ENOMEM)?.end.min(end);
            self.page_op(PageOp::Residency, at, to, call)?;
            at = to;
        }
        Ok(0)
    }
}
