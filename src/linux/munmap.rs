//! munmap(2)

use super::file::File;
use super::kernel::Kernel;
use super::vma::LinuxVma;
use super::{Call, Mm};
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// munmap(2) (`do_vmi_munmap`). Returns 0. A hole is fine.
    ///
    /// As in Linux, cuts at the ends of the range that were made before an error stay.
    ///
    /// O(log n + VMAs removed). Behind a lock, [`AddrSpace::munmap`](crate::AddrSpace::munmap)
    /// releases it every few VMAs.
    ///
    /// # Errors
    /// `EINVAL`: unaligned, empty, beyond user space, or part of special memory. `ENOMEM`: too many
    /// VMAs. `EPERM`: sealed.
    pub fn munmap<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let (start, end) = self.layout.user_range(addr, len)?;
        self.unmap_range(start, end, call)?;
        Ok(0)
    }
}
