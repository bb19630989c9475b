//! [`PageOp`]: work on pages that leaves their VMA as it is, and how it is done.

use super::PageRange;
use super::file::{File, Restrictions};
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use super::vma_view::VmaView;
use super::walk::Gaps;
use crate::{Errno, Piece, VmMap, VmRange};

/// Work to be done on the pages of one piece of a VMA. None of it changes the VMA.
///
/// Most operations take page-table entries away, narrow them, or put others in their place. Before
/// one of these the tokens of page faults that have looked the VMA up are
/// [invalidated](crate::AddrSpace::still_valid), and `flush_begin` follows, with `flush_wait` after
/// unlock: [`Kernel::page_op`] itself need not flush. The docs name the operations that are not
/// followed by a flush.
///
/// ```
/// use kvma::linux::{Kernel, LinuxVma, NoFile, PageOp};
/// use kvma::{Errno, Hooks, Piece};
///
/// /// A kernel that remembers what is in memory.
/// #[derive(Default)]
/// struct Pages(std::collections::BTreeSet<u64>);
///
/// # impl Hooks<LinuxVma<NoFile>> for Pages {
/// #     type Error = Errno;
/// # }
/// impl Kernel<NoFile> for Pages {
///     fn page_op(
///         &mut self,
///         op: PageOp,
///         piece: &Piece<'_, LinuxVma<NoFile>>,
///     ) -> Result<(), Errno> {
///         for page in piece.range().pages() {
///             match op {
///                 PageOp::Populate | PageOp::PopulateRead | PageOp::PopulateWrite => {
///                     self.0.insert(page);
///                 }
///                 PageOp::DontNeed | PageOp::Free | PageOp::Remove => {
///                     self.0.remove(&page);
///                 }
///                 _ => {} // advice on speed, which this kernel does not take
///             }
///         }
///         Ok(())
///     }
/// }
/// # use kvma::linux::{Layout, Mm, Mmap, NoKernel};
/// # use kvma::{AddrSpace, FixedPool, VmaNode};
/// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
/// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
/// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
/// let mut kernel = Pages::default();
/// let at = space.mmap(memory, &mut kernel)?;
/// space.mlock(at, 0x3000, &mut kernel)?;
/// assert_eq!(kernel.0.len(), 3);
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageOp {
    /// Bring the pages in, writable where the VMA is (mlock, `MAP_POPULATE`, a locked VMA that
    /// grew).
    ///
    /// Not followed by a flush, like the two below: it does what page faults do, and if they would
    /// flush (for a page that is copied), so must it. Where another thread's flush is pending
    /// ([`Token::is_dead`](crate::Token::is_dead)), leave the page to a fault, or flush first.
    Populate,
    /// `MADV_POPULATE_READ`: bring the pages in as if each had been read.
    PopulateRead,
    /// `MADV_POPULATE_WRITE`: bring the pages in as if each had been written.
    PopulateWrite,
    /// `MADV_WILLNEED`: read ahead. Not followed by a flush, since entries are added at most.
    WillNeed,
    /// `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED`: drop what is mapped, except for guards. The next
    /// access sees zeros or the file.
    DontNeed,
    /// `MADV_FREE`: the contents may be dropped until they are written again. Entries become clean,
    /// so that they show that.
    Free,
    /// `MADV_REMOVE`: punch a hole into the object. Its pages go from here, too.
    Remove,
    /// `MADV_COLD`: reclaim early unless the pages are used. Entries must show the next use.
    Cold,
    /// `MADV_PAGEOUT`: reclaim now.
    PageOut,
    /// `MADV_COLLAPSE`: make huge pages of it now. One entry takes the place of many.
    Collapse,
    /// `MADV_GUARD_INSTALL`: let each page fault from now on (`SEGV_MAPERR`, if the VMA would allow
    /// the access), and drop its contents. A guard moves with its VMA, and goes with it.
    GuardInstall,
    /// `MADV_GUARD_REMOVE`: take such guards away. Not followed by a flush: no TLB remembers that
    /// there was nothing.
    GuardRemove,
    /// `msync(MS_SYNC)`: write the object's range to its device, and wait.
    ///
    /// Entries become read-only or clean, so that later writes show. A fault that has noted its
    /// write already must note it again.
    WriteBack,
    /// `mincore`: report which pages are in memory. Not followed by a flush, since it only looks.
    Residency,
}

impl PageOp {
    /// Returns `true` if entries are removed, narrowed, or replaced.
    const fn takes_entries(self) -> bool {
        match self {
            Self::DontNeed
            | Self::Free
            | Self::Remove
            | Self::Cold
            | Self::PageOut
            | Self::Collapse
            | Self::GuardInstall
            | Self::WriteBack => true,
            Self::Populate
            | Self::PopulateRead
            | Self::PopulateWrite
            | Self::WillNeed
            | Self::GuardRemove
            | Self::Residency => false,
        }
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Has the kernel do `op` to `part`, which lies in one VMA.
    ///
    /// If that may take page-table entries away, tokens are invalidated before, and a flush
    /// follows whatever the kernel answers.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub(super) fn page_op<K: Kernel<F> + ?Sized>(
        &mut self,
        op: PageOp,
        part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let range = VmRange::from_pages(part, self.layout.page_size());
        let work = |map: &VmMap<LinuxVma<F>, A>, call: &mut Call<'_, F, A, K>| {
            let Some(vma) = map.find(range.start()) else { return Ok(()) };
            let attrs = vma.attrs_at(range.start());
            call.hooks().page_op(op, &Piece::new(range, attrs, vma.data()))
        };
        if !op.takes_entries() {
            return work(&self.map, call);
        }
        call.check_alloc(self.map.alloc())?;
        self.map.invalidate_range(part, call, work)
    }

    /// Brings in what is mapped in `range`, up to the first error (`__mm_populate`).
    ///
    /// # Errors
    ///
    /// `ENOMEM` for memory without access, and those of the kernel.
    pub(super) fn populate<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        self.for_each_vma(range, Gaps::Ignore, call, |mm, vma, part, call| {
            mm.populate_vma(vma, part, call)
        })
    }

    /// Brings in what can be brought in (`mm_populate`): for calls that have succeeded by then,
    /// whatever comes of it.
    pub(super) fn populate_all<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) {
        let _ = self.for_each_vma(range, Gaps::Ignore, call, |mm, vma, part, call| {
            let _ = mm.populate_vma(vma, part, call);
            Ok(())
        });
    }

    /// Brings in a part of one VMA (`populate_vma_page_range`).
    pub(super) fn populate_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if vma.has_any(VmFlags::IO | VmFlags::PFN_MAP | VmFlags::LOCK_ON_FAULT) {
            return Ok(());
        }
        if !vma.has_any(VmFlags::ACCESS) {
            return Err(Errno::ENOMEM);
        }
        if vma.forbids(Restrictions::NO_POPULATE) {
            return Err(Errno::EFAULT);
        }
        // Private memory is written to, so that it need not be copied later. Only the kernel finds
        // out whether all of it can be.
        if vma.flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE {
            self.prepare_anon_vma(part.start);
        }
        self.page_op(PageOp::Populate, part, call)
    }
}
