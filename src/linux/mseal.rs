//! mseal(2)

use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::walk::Gaps;
use crate::Errno;

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Seals a range against later changes: mseal(2) (`do_mseal`). Returns 0.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: flags, unaligned, a range that wraps, or part of special memory.
    /// - `ENOMEM`: a gap (then nothing is sealed), too many VMAs or no node (what comes before is
    ///   sealed).
    /// - Those of the kernel.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// space.mseal(at, 0x3000, 0, &mut NoKernel)?;
    /// assert_eq!(space.munmap(at, 0x1000, &mut NoKernel), Err(Errno::EPERM));
    /// assert_eq!(space.mprotect(at, 0x1000, 0, &mut NoKernel), Err(Errno::EPERM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mseal<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let range = self.layout.checked_range(addr, len)?;
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        self.for_each_vma(range, Gaps::Refuse, call, |_, _, _, _| Ok(()))?;
        self.for_each_vma(range, Gaps::Refuse, call, |mm, vma, part, call| {
            mm.set_flags(vma, part, vma.flags | VmFlags::SEALED, call)
        })?;
        Ok(0)
    }
}
