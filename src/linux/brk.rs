//! brk(2)

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::limits::Resource;
use super::mm::{Call, Mm, MmAlloc};
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, attrs};
use crate::{Backing, Errno, Merge};

/// The flags of the heap.
const HEAP: VmFlags =
    VmFlags::READ.union(VmFlags::WRITE).union(VmFlags::MAY_ACCESS).union(VmFlags::ACCOUNT);

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Sets where the heap starts, which is then also where it ends, and how many bytes of
    /// initialised data the program has.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// // As execve does, behind the program's last segment.
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(0x40_0000, 0x1000));
    /// assert_eq!(space.brk(0x40_3000, &mut NoKernel), 0x40_3000);
    /// assert_eq!(space.inspect(|mm| (mm.start_brk(), mm.current_brk())), (0x40_0000, 0x40_3000));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_start_brk(&mut self, start: u64, data_segment: u64) {
        self.start_brk = start;
        self.brk = start;
        self.data_segment = data_segment;
    }

    /// Returns where the heap starts.
    pub fn start_brk(&self) -> u64 {
        self.start_brk
    }

    /// Returns where the heap ends, to the byte.
    pub fn current_brk(&self) -> u64 {
        self.brk
    }

    /// Moves the end of the heap to `brk`: brk(2), the system call.
    ///
    /// Returns where the heap ends now, which is where it ended before if the call has failed. User
    /// space gets no errno.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// // `space` is an `AddrSpace<Mm>`.
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(0x60_0000, 0));
    /// assert_eq!(space.brk(0, &mut NoKernel), 0x60_0000); // where is it?
    /// assert_eq!(space.brk(0x60_1234, &mut NoKernel), 0x60_1234);
    /// assert_eq!(space.lookup(0x60_0000).map(|vma| vma.range().len()), Some(Some(0x2000)));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn brk<K: Kernel<F> + ?Sized>(&mut self, brk: u64, call: &mut Call<'_, F, A, K>) -> u64 {
        if self.try_brk(brk, call).is_ok() {
            self.brk = brk;
        }
        self.brk
    }

    /// Moves the end of the heap by `increment` bytes: sbrk(3). Returns where it was.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// // `space` is an `AddrSpace<Mm>`.
    /// space.update(0, &mut NoKernel, |mm, _| mm.set_start_brk(0x60_0000, 0));
    /// assert_eq!(space.sbrk(0x1000, &mut NoKernel), Ok(0x60_0000));
    /// assert_eq!(space.sbrk(0, &mut NoKernel), Ok(0x60_1000));
    /// assert_eq!(space.sbrk(-0x2000, &mut NoKernel), Err(Errno::ENOMEM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn sbrk<K: Kernel<F> + ?Sized>(
        &mut self,
        increment: i64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let old = self.brk;
        let new = old.checked_add_signed(increment).ok_or(Errno::ENOMEM)?;
        if self.brk(new, call) == new { Ok(old) } else { Err(Errno::ENOMEM) }
    }

    fn try_brk<K: Kernel<F> + ?Sized>(
        &mut self,
        brk: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let heap = brk.checked_sub(self.start_brk).ok_or(Errno::EINVAL)?;
        let limit = self.limits.get(Resource::Data);
        if limit != u64::MAX && heap.wrapping_add(self.data_segment) > limit {
            return Err(Errno::ENOMEM);
        }
        let (old, new) = (self.layout.page_up(self.brk), self.layout.page_up(brk));
        if new == old {
            Ok(())
        } else if brk <= self.brk {
            let removed = self.layout.range(new, old.wrapping_sub(new));
            self.first_in(removed).ok_or(Errno::ENOMEM)?;
            self.unmap(removed, call)
        } else {
            // Near the top of 64 bits `new` has wrapped to 0, and this length exceeds user space.
            let grown = PlacementRequest::fixed(old, new.wrapping_sub(old));
            let grown = self.get_unmapped_area(&grown, call.hooks().capabilities())?;
            self.grow_heap(grown, call)
        }
    }

    /// Maps `grown` at the end of the heap (`do_brk_flags`).
    fn grow_heap<K: Kernel<F> + ?Sized>(
        &mut self,
        grown: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let len = self.layout.bytes(grown.len());
        if !self.may_lock_more(self.future, len, call.hooks().capabilities()) {
            return Err(Errno::EAGAIN);
        }
        let clear_end = grown.end + self.guard_pages().max(1);
        if self
            .vma_at_or_above(grown.start)
            .is_some_and(|next| clear_end > self.guarded_start(&next))
        {
            return Err(Errno::ENOMEM);
        }
        let flags = HEAP | self.future;
        if !self.may_expand(flags, len) || self.is_over_full() {
            return Err(Errno::ENOMEM);
        }
        // It never merges with what the program's image put below the heap: bss and heap stay two.
        let start_brk = self.start_brk;
        let continues_heap = self.vma_below(grown.start).is_some_and(|below| {
            below.range.end == grown.start && self.layout.bytes(below.range.end) > start_brk
        });
        let merge = if continues_heap { Merge::Left } else { Merge::Never };
        let attrs = attrs(flags, Backing::Anonymous, Role::Object);
        self.charged(len, call, |mm, call| {
            mm.insert(grown, attrs, LinuxVma::anonymous(), merge, call)
        })?;
        if self.future.contains(VmFlags::LOCKED) {
            self.populate_all(grown, call);
        }
        Ok(())
    }
}
