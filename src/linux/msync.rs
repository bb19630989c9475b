//! msync(2)

use super::abi::{MS_ASYNC, MS_INVALIDATE, MS_SYNC, int};
use super::file::File;
use super::kernel::{Kernel, PageOp};
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// msync(2). Returns 0. With `MS_SYNC` the owner hears [`PageOp::WriteBack`] for each part of a
    /// shared object, in order. The VMAs stay as they are.
    ///
    /// # Errors
    /// `EINVAL`: unknown flags, both `MS_ASYNC` and `MS_SYNC`, unaligned. `ENOMEM`: a wrap or a
    /// hole; with `MS_ASYNC` alone at once, else after the rest has been done. `EBUSY`:
    /// `MS_INVALIDATE` on locked memory.
    pub fn msync<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let flags = int(flags);
        let both = MS_ASYNC | MS_SYNC;
        if flags & !(both | MS_INVALIDATE) != 0
            || !self.layout.is_aligned(addr)
            || flags & both == both
        {
            return Err(Errno::EINVAL);
        }
        let end = addr.checked_add(self.layout.page_up(len)).ok_or(Errno::ENOMEM)?;
        let mut at = addr;
        let mut hole = Ok(0);
        while at < end {
            let region = self.first_in(at, end).ok_or(Errno::ENOMEM)?;
            if region.start > at {
                if flags == MS_ASYNC {
                    return Err(Errno::ENOMEM);
                }
                hole = Err(Errno::ENOMEM);
                at = region.start;
            }
            if flags & MS_INVALIDATE != 0 && region.has(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            if flags & MS_SYNC != 0 && region.is_file() && region.has(VmFlags::SHARED) {
                self.page_op(PageOp::WriteBack, at, region.end.min(end), call)?;
            }
            at = region.end;
        }
        hole
    }
}
