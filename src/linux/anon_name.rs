//! Names of anonymous memory: `PR_SET_VMA(2const)`

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::madvise::enomem_to_eagain;
use super::mm::{Call, Mm, MmAlloc};
use super::vma::Role;
use super::vma_view::VmaView;
use super::walk::Gaps;
use crate::Errno;

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Names the anonymous memory in a range, or takes its name away:
    /// `prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, …)`. Returns 0.
    ///
    /// maps shows `[anon:NAME]`. VMAs with different names do not merge. The kernel checks and
    /// keeps what user space passes as a name; `name` is its handle.
    ///
    /// It goes up as [`madvise`](Self::madvise) does: gaps are passed over and reported at the end.
    /// Unlike Linux, shared anonymous memory takes no name, since its handle stands for the object.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: an unaligned address, a range that wraps, part of special memory.
    /// - `EBADF`: memory with an object.
    /// - `ENOMEM`: a gap.
    /// - `EAGAIN`: too many VMAs, no node.
    ///
    /// ```
    /// # use kvma::linux::{File, Layout, Mm, Mmap, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<Name, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # #[derive(Clone, PartialEq)]
    /// # struct Name;
    /// # impl File for Name {
    /// #     fn id(&self) -> u64 { 1 }
    /// #     fn device(&self) -> (u32, u32) { (0, 0) }
    /// #     fn inode(&self) -> u64 { 0 }
    /// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    /// #         out.write_str("heap of Java")
    /// #     }
    /// # }
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// // `Name` writes "heap of Java".
    /// space.set_anon_name(at, 0x1000, Some(&Name), &mut NoKernel)?;
    /// let maps = space.inspect(|mm| mm.maps().to_string());
    /// assert!(maps.contains("[anon:heap of Java]"));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_anon_name<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        name: Option<&F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let range = self.layout.checked_range(addr, len)?;
        self.for_each_vma(range, Gaps::Report, call, |mm, vma, part, call| {
            mm.name_vma(vma, part, name, call).map_err(enomem_to_eagain)
        })?;
        Ok(0)
    }

    /// Names a part of one VMA (`madvise_vma_anon_name`).
    fn name_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        name: Option<&F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if vma.role == Role::Special {
            // It goes on showing its own name, but Linux would split it for another.
            return if part == vma.range || name.is_none() { Ok(()) } else { Err(Errno::EINVAL) };
        }
        if !vma.is_anonymous() {
            return Err(Errno::EBADF);
        }
        let (start, end) = (self.layout.bytes(part.start), self.layout.bytes(part.end));
        if self.map.find(start).is_some_and(|vma| vma.data().name() == name) {
            return Ok(());
        }
        self.split_ends(vma, part, call)?;
        // The former name is kept in a node until it can be dropped after unlock.
        call.preallocate(1)?;
        let former = self.map.update_data(start, |data| data.replace_name(name.cloned()))?;
        call.owed.nodes.put_unused(part, vma.attrs_at(part.start), former);
        for boundary in [end, start] {
            // Neighbours that differ stay apart.
            let _ = self.map.merge_at(boundary, call);
        }
        Ok(())
    }
}
