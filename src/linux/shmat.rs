//! shmat(2), shmdt(2): segments of System V shared memory as mappings.
//!
//! The segments themselves (shmget(2), shmctl(2)) are the kernel's.

use super::PageRange;
use super::abi::{
    MAP_FIXED, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE, SHM_EXEC, SHM_RDONLY, SHM_REMAP,
    SHM_RND, int,
};
use super::file::{Alignment, File, OpenFile, Rights};
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::mmap::MmapArgs;
use super::vma::{LinuxVma, Role};
use crate::{Backing, Errno, Vma};

/// The arguments of shmat(2), as user space passed them.
///
/// See [`Mm::shmat`] for an example.
#[derive(Debug, Clone)]
pub struct Shmat<F> {
    /// The segment behind the identifier, as a handle of this attachment alone: Linux makes a
    /// `struct file` for each, so that two never merge. Its [`File::segment_size`] is `Some`.
    ///
    /// Or why there is none: `EINVAL` for an unknown identifier, `EIDRM` for one that was removed,
    /// `EACCES` without permission.
    pub segment: Result<F, Errno>,
    /// The address; 0 to let one be chosen.
    pub addr: u64,
    /// `SHM_*`
    pub flags: u64,
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Attaches a segment of System V shared memory: shmat(2) (`do_shmat`). Returns the address.
    ///
    /// # Errors
    ///
    /// - Why there is no segment, if the address is fine.
    /// - `EINVAL`: an address that is not aligned or in use, or none to remap.
    /// - Those of [`mmap`](Self::mmap).
    ///
    /// ```
    /// use kvma::linux::abi::SHM_RDONLY;
    /// # use kvma::linux::{File, Layout, Mm, NoKernel, Shmat};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # /// A segment of two pages.
    /// # #[derive(Clone, PartialEq)]
    /// # struct Segment;
    /// # impl File for Segment {
    /// #     fn id(&self) -> u64 { 1 }
    /// #     fn device(&self) -> (u32, u32) { (0, 1) }
    /// #     fn inode(&self) -> u64 { 32768 }
    /// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    /// #         out.write_str("/SYSV00000000 (deleted)")
    /// #     }
    /// #     fn segment_size(&self) -> Option<u64> { Some(0x2000) }
    /// # }
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<Segment, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// // `Segment` is two pages long.
    /// let args = Shmat { segment: Ok(Segment), addr: 0, flags: SHM_RDONLY };
    /// let at = space.shmat(args, &mut NoKernel)?;
    /// assert_eq!(space.lookup(at).map(|vma| vma.range().len()), Some(Some(0x2000)));
    /// let unknown = Shmat { segment: Err(Errno::EINVAL), addr: 0, flags: 0 };
    /// assert_eq!(space.shmat(unknown, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn shmat<K: Kernel<F> + ?Sized>(
        &mut self,
        args: Shmat<F>,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let Shmat { segment, addr, flags } = args;
        let flags = int(flags);
        let checked = self.check_attach(addr, flags);
        let file = match segment {
            Ok(file) => file,
            Err(errno) => return Err(checked.err().unwrap_or(errno)),
        };
        let writes = flags & SHM_RDONLY == 0;
        let rights = if writes { Rights::READ | Rights::WRITE } else { Rights::READ };
        let open = OpenFile::new(file, rights);
        let answer = checked.and_then(|addr| self.attach(&open, addr, flags, call));
        // The VMA has a handle of its own. This one is dropped after unlock.
        call.owed.reject(LinuxVma::new(open.into_file(), Role::Object));
        answer
    }

    /// Returns the address at which to attach; `None` for any.
    fn check_attach(&self, addr: u64, flags: u64) -> Result<Option<u64>, Errno> {
        let remaps = flags & SHM_REMAP != 0;
        let rounded = self.layout.page_down(addr);
        let refused = if flags & SHM_RND != 0 { remaps && rounded == 0 } else { rounded != addr };
        match addr {
            0 if remaps => Err(Errno::EINVAL),
            0 => Ok(None),
            _ if refused => Err(Errno::EINVAL),
            _ => Ok(Some(rounded)),
        }
    }

    fn attach<K: Kernel<F> + ?Sized>(
        &mut self,
        open: &OpenFile<F>,
        addr: Option<u64>,
        flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let len = open.file().segment_size().ok_or(Errno::EINVAL)?;
        // Linux does not look at what is mapped where the address was rounded down to 0.
        if let Some(addr) = addr.filter(|&addr| addr != 0 && flags & SHM_REMAP == 0) {
            let range = self.layout.rounded_range(addr, len).ok_or(Errno::EINVAL)?;
            if self.first_in(range).is_some() {
                return Err(Errno::EINVAL);
            }
        }
        let mut prot = PROT_READ;
        if flags & SHM_RDONLY == 0 {
            prot |= PROT_WRITE;
        }
        if flags & SHM_EXEC != 0 {
            prot |= PROT_EXEC;
        }
        let huge = match open.file().alignment() {
            Alignment::HugeTlb(page) => Some(page),
            Alignment::Page | Alignment::Huge | Alignment::HugeShmem => None,
        };
        let flags = MAP_SHARED | addr.map_or(0, |_| MAP_FIXED);
        let addr = addr.unwrap_or(0);
        let args = MmapArgs { addr, len, prot, flags, offset: 0, huge };
        self.do_mmap(args, Some(open), call)
    }

    /// Detaches the segment that was attached at `addr`: shmdt(2) (`ksys_shmdt`). Returns 0.
    ///
    /// All VMAs go that lie where the attachment put them and show the same handle, so even one
    /// that was unmapped or protected in parts goes as a whole. A sealed one stays, and is no
    /// error.
    ///
    /// O(log n + VMAs above `addr` up to the segment's size, and before the first VMA of a
    /// segment).
    ///
    /// # Errors
    ///
    /// `EINVAL`: the address is not aligned, or no segment was attached there.
    ///
    /// ```
    /// # use kvma::linux::{File, Layout, Mm, NoKernel, Shmat};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # /// A segment of two pages.
    /// # #[derive(Clone, PartialEq)]
    /// # struct Segment;
    /// # impl File for Segment {
    /// #     fn id(&self) -> u64 { 1 }
    /// #     fn device(&self) -> (u32, u32) { (0, 1) }
    /// #     fn inode(&self) -> u64 { 32768 }
    /// #     fn write_name(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
    /// #         out.write_str("/SYSV00000000 (deleted)")
    /// #     }
    /// #     fn segment_size(&self) -> Option<u64> { Some(0x2000) }
    /// # }
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<Segment, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// let args = Shmat { segment: Ok(Segment), addr: 0, flags: 0 };
    /// let at = space.shmat(args, &mut NoKernel)?;
    /// space.shmdt(at, &mut NoKernel)?;
    /// assert_eq!(space.shmdt(at, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn shmdt<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        let start = self.layout.pages(addr);
        let above = PageRange::new(start, self.layout.user_space().end.max(start));
        // What lies across the address began below it.
        let found = self.vmas_in(above).find(|(vma, _)| is_attached_at(vma, addr));
        let (first, segment) = found
            .and_then(|(vma, _)| Some((vma.range().page_range(), vma.data().object()?.clone())))
            .ok_or(Errno::EINVAL)?;
        let size = self.layout.pages(self.layout.page_up(segment.segment_size().unwrap_or(0)));
        let _ = self.unmap(first, call);
        let mut rest = PageRange::new(first.end, start.saturating_add(size).max(first.end));
        while let Some(vma) = self.first_in(rest).filter(|vma| vma.range.end <= rest.end) {
            let attached = self.map.find(self.layout.bytes(vma.range.start)).is_some_and(|vma| {
                is_attached_at(&vma, addr) && vma.data().object() == Some(&segment)
            });
            if attached {
                let _ = self.unmap(vma.range, call);
            }
            rest.start = vma.range.end;
        }
        // Its last reference may be this one, and is dropped after unlock.
        call.owed.reject(LinuxVma::new(segment, Role::Object));
        Ok(0)
    }
}

/// Returns `true` if a VMA is a part of a segment that was attached at `addr`.
fn is_attached_at<F: File>(vma: &Vma<'_, LinuxVma<F>>, addr: u64) -> bool {
    let is_segment = vma.data().object().is_some_and(|file| file.segment_size().is_some());
    let Backing::Object { offset, .. } = vma.attrs().backing() else { return false };
    is_segment && vma.range().start().checked_sub(addr) == Some(offset)
}
