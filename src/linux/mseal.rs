//! mseal(2)

use super::file::File;
use super::kernel::Kernel;
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mseal(2) (`do_mseal`). Returns 0.
    ///
    /// # Errors
    /// `EINVAL`: flags, unaligned, a wrap, part of special memory. `ENOMEM`: a hole (then nothing
    /// is sealed), or too many VMAs (what comes before is sealed).
    pub fn mseal<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let rounded = self.layout.page_up(len);
        let end = addr.checked_add(rounded).ok_or(Errno::EINVAL);
        if flags != 0 || !self.layout.is_aligned(addr) || (len != 0 && rounded == 0) {
            return Err(Errno::EINVAL);
        }
        let end = end?;
        let mut at = addr;
        while at < end {
            at = self.at(at).ok_or(Errno::ENOMEM)?.end;
        }
        at = addr;
        while let Some(region) = self.first_in(at, end) {
            let to = region.end.min(end);
            self.set_flags(&region, at, to, region.flags | VmFlags::SEALED, call)?;
            at = to;
        }
        Ok(0)
    }
}
