//! mremap(2)

use super::PageRange;
use super::abi::{MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use super::file::{Alignment, File, Restrictions};
use super::kernel::Kernel;
use super::layout::{Layout, round_up};
use super::mm::{Call, Mm, MmAlloc};
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, StickyFlags, with_vm_flags};
use super::vma_view::VmaView;
use super::walk::Gaps;
use crate::vm_map::SourceRange;
use crate::{Backing, Errno, Merge, VmRange, VmaData};

/// One move, shrink or extension of one VMA (`struct vma_remap_struct`).
#[derive(Clone, Copy, Debug)]
struct Remap {
    /// The old range. Where nothing is looked up at its end, it may leave user space.
    old: PageRange,
    /// The new length in pages.
    new_len: u64,
    /// The pages by which the lengths differ that the caller passed.
    delta: u64,
    /// `MREMAP_*`
    flags: u64,
    /// The new address in bytes, as the caller passed it. It is page-aligned where it counts.
    new_addr: u64,
}

impl Remap {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// Returns `true` if the new address counts (`vrm_implies_new_addr`).
    fn implies_new_addr(&self) -> bool {
        self.has(MREMAP_FIXED | MREMAP_DONTUNMAP)
    }

    /// Returns `true` if the length stays as it is or shrinks.
    fn shrinks(&self) -> bool {
        self.new_len <= self.old.len()
    }

    /// Returns the part of the old range that a shrink removes.
    fn tail(&self) -> PageRange {
        PageRange::new(self.old.start + self.new_len, self.old.end)
    }

    /// Rounds the lengths up to whole huge pages of `page` bytes. Those can be moved and removed,
    /// but none can be added (`align_hugetlb`).
    ///
    /// # Errors
    ///
    /// `EINVAL`: an extension, or an address inside a huge page. For that even a new address is
    /// looked at which does not count for lack of a flag.
    fn in_huge_pages(self, page: u64, layout: &Layout) -> Result<Self, Errno> {
        let whole = |pages| layout.pages(round_up(layout.bytes(pages), page));
        let (old_len, new_len) = (whole(self.old.len()), whole(self.new_len));
        let addresses = layout.bytes(self.old.start) | self.new_addr;
        if addresses & (page - 1) != 0 || new_len > old_len {
            return Err(Errno::EINVAL);
        }
        let old = PageRange::new(self.old.start, self.old.start + old_len);
        // The difference stays as it is: nothing is charged for huge pages.
        Ok(Self { old, new_len, ..self })
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Moves, shrinks or extends a mapping: mremap(2). Returns the new address.
    ///
    /// With `MREMAP_FIXED` and equal lengths it moves every VMA in the range (Linux 6.17); those
    /// moved before an error stay moved. A fixed target is emptied, and a tail removed, before much
    /// of what can fail: they stay removed.
    ///
    /// `MREMAP_DONTUNMAP` unlocks the VMA that it leaves behind, as Linux 6.18 does, without
    /// subtracting it from the count of locked memory, which therefore stays too high until
    /// the program ends.
    ///
    /// # Errors
    ///
    /// Those of mremap(2); `EPERM` for what is sealed; and those of the kernel.
    ///
    /// ```
    /// use kvma::linux::abi::MREMAP_MAYMOVE;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// let moved = space.mremap(at, 0x3000, 0x8000, MREMAP_MAYMOVE, 0, &mut NoKernel)?;
    /// assert!(space.lookup(moved + 0x7fff).is_some());
    /// // Shrinking never moves.
    /// assert_eq!(space.mremap(moved, 0x8000, 0x1000, 0, 0, &mut NoKernel), Ok(moved));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn mremap<K: Kernel<F> + ?Sized>(
        &mut self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let remap = self.check_remap(old_addr, old_len, new_len, flags, new_addr)?;
        if remap.has(MREMAP_FIXED) && remap.old.len() == remap.new_len {
            return self.move_range(&remap, call);
        }
        let vma = self.vma_at(remap.old.start).ok_or(Errno::EFAULT)?;
        let remap = self.prepare_remap(remap, &vma, call)?;
        if remap.implies_new_addr() {
            self.remap_to(remap, call)
        } else if !remap.shrinks() {
            self.extend(&remap, &vma, call)
        } else {
            if !remap.tail().is_empty() {
                self.unmap(self.layout.within_user_space(remap.tail())?, call)?;
            }
            Ok(old_addr)
        }
    }

    /// Checks what can be told from the arguments alone (`check_mremap_params`).
    fn check_remap(
        &self,
        old_addr: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new_addr: u64,
    ) -> Result<Remap, Errno> {
        let layout = &self.layout;
        let (old_len, new_len) = (layout.page_up(old_len), layout.page_up(new_len));
        let remap = Remap {
            old: layout.range(old_addr, old_len),
            new_len: layout.pages(new_len),
            delta: layout.pages(old_len.abs_diff(new_len)),
            flags,
            new_addr,
        };
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        if flags & !known != 0
            || !layout.is_aligned(old_addr)
            || new_len == 0
            || new_len > layout.task_size()
        {
            return Err(Errno::EINVAL);
        }
        if !remap.implies_new_addr() {
            return Ok(remap);
        }
        // Modulo 2^64, as in Linux: an old range that wraps may contain the new one.
        let overlap =
            old_addr.wrapping_add(old_len) > new_addr && new_addr.wrapping_add(new_len) > old_addr;
        if new_addr > layout.task_size() - new_len
            || !layout.is_aligned(new_addr)
            || !remap.has(MREMAP_MAYMOVE)
            || (remap.has(MREMAP_DONTUNMAP) && old_len != new_len)
            || overlap
        {
            return Err(Errno::EINVAL);
        }
        // The target and the source may each be split twice.
        if self.map.len() + 2 >= self.max_map_count.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        Ok(remap)
    }

    /// Moves every VMA in the old range, with the gaps between them (`remap_move`).
    fn move_range<K: Kernel<F> + ?Sized>(
        &mut self,
        remap: &Remap,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        self.vma_at(remap.old.start).ok_or(Errno::EFAULT)?;
        self.for_each_vma(remap.old, Gaps::Ignore, call, |mm, vma, part, call| {
            // It might go elsewhere than the others.
            let alone = vma.forbids(Restrictions::NO_ADDRESS | Restrictions::NO_JOINT_MOVE);
            if alone && (part.start > remap.old.start || vma.range.end < remap.old.end) {
                return Err(Errno::EFAULT);
            }
            let distance = mm.layout.bytes(part.start - remap.old.start);
            let new_addr = remap.new_addr + distance;
            let piece = Remap { old: part, new_len: part.len(), new_addr, ..*remap };
            let piece = mm.prepare_remap(piece, vma, call)?;
            mm.remap_to(piece, call).map(|_| ())
        })?;
        Ok(remap.new_addr)
    }

    /// Checks what can be told from the VMA (`check_prep_vma`). Returns the work to do, in huge
    /// pages if the VMA consists of them.
    fn prepare_remap<K: Kernel<F> + ?Sized>(
        &self,
        remap: Remap,
        vma: &VmaView,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<Remap, Errno> {
        if vma.has(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let remap = match vma.huge_page() {
            Some(page) => remap.in_huge_pages(page, &self.layout)?,
            None => remap,
        };
        if remap.shrinks() && !remap.implies_new_addr() {
            return Ok(remap);
        }
        let rigid = vma.has_any(VmFlags::DONT_EXPAND | VmFlags::PFN_MAP);
        // A second mapping of private memory would share nothing with the first.
        if remap.old.is_empty() && !vma.has_any(VmFlags::SHARED | VmFlags::MAY_SHARE) {
            return Err(Errno::EINVAL);
        }
        if remap.has(MREMAP_DONTUNMAP) && rigid {
            return Err(Errno::EINVAL);
        }
        // What a shrink removes may span VMAs; what is moved or extended may not.
        if remap.old.len().min(remap.new_len) > vma.range.end - remap.old.start {
            return Err(Errno::EFAULT);
        }
        if remap.shrinks() {
            return Ok(remap);
        }
        if rigid {
            return Err(Errno::EFAULT);
        }
        let delta = self.layout.bytes(remap.delta);
        if !self.may_lock_more(vma.flags, delta, call.hooks().capabilities()) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(vma.flags, delta) {
            return Err(Errno::ENOMEM);
        }
        Ok(remap)
    }

    /// Moves to the address that the caller passed (`mremap_to`).
    fn remap_to<K: Kernel<F> + ?Sized>(
        &mut self,
        mut remap: Remap,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        if remap.has(MREMAP_FIXED) {
            let start = self.layout.pages(remap.new_addr);
            let target = PageRange::new(start, start + remap.new_len);
            // Rounded up to huge pages, it may leave user space.
            self.unmap(self.layout.within_user_space(target)?, call)?;
            // If the old range wraps, the target may have contained its start.
            self.vma_at(remap.old.start).ok_or(Errno::EFAULT)?;
        }
        if remap.new_len < remap.old.len() {
            self.unmap(self.layout.within_user_space(remap.tail())?, call)?;
            remap.old.end = remap.old.start + remap.new_len;
        }
        // Either may have split the VMA.
        let vma = self.vma_at(remap.old.start).ok_or(Errno::EFAULT)?;
        let len = self.layout.bytes(remap.old.len());
        if remap.has(MREMAP_DONTUNMAP) && !self.may_expand(vma.flags, len) {
            return Err(Errno::ENOMEM);
        }
        let map_flags = if remap.has(MREMAP_FIXED) { MAP_FIXED } else { 0 };
        self.move_vma(&remap, &vma, remap.new_addr, map_flags, call)
    }

    /// Extends a mapping, in place if possible (`expand_vma`).
    fn extend<K: Kernel<F> + ?Sized>(
        &mut self,
        remap: &Remap,
        vma: &VmaView,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let growth = PageRange::new(vma.range.end, vma.range.end + remap.delta);
        let whole = PageRange::new(vma.range.start, growth.end);
        let clear = PageRange::new(growth.start, growth.end + self.guard_pages());
        let (addr, len) = (self.layout.bytes(whole.start), self.layout.bytes(whole.len()));
        let in_place = remap.old.end == vma.range.end
            && self.first_in(clear).is_none()
            && self
                .get_unmapped_area(&PlacementRequest::fixed(addr, len), call.hooks().capabilities())
                .is_ok();
        if in_place {
            self.extend_in_place(vma, growth, call)?;
            self.populate_growth(vma, growth, call);
            return Ok(self.layout.bytes(remap.old.start));
        }
        if !remap.has(MREMAP_MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        self.move_vma(remap, vma, 0, 0, call)
    }

    /// Appends `growth` to a VMA, and merges it with what then follows (`vma_merge_extend`).
    fn extend_in_place<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        growth: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let len = self.layout.bytes(growth.len());
        let charge = if vma.has(VmFlags::ACCOUNT) { len } else { 0 };
        self.charged(charge, call, |mm, call| {
            let start = mm.layout.bytes(vma.range.start);
            let data = mm.map.find_again(start).ok_or(Errno::EFAULT)?.data().clone();
            mm.insert(growth, vma.attrs_at(growth.start), data, Merge::Both, call)
        })
    }

    /// Finds a free range and moves there (`vrm_set_new_addr`, `move_vma`). `hint` is an address,
    /// or 0 where anywhere will do.
    fn move_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        remap: &Remap,
        vma: &VmaView,
        hint: u64,
        map_flags: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let request = self.copy_request(remap, vma, hint, map_flags);
        let target = self.get_unmapped_area(&request, call.hooks().capabilities())?;
        // Unmapping the source may split it, and the copy is one more VMA (`prep_move_vma`).
        if self.map.len() >= self.max_map_count.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        if (vma.range.start != remap.old.start && !vma.may_split(remap.old.start))
            || (vma.range.end != remap.old.end && !vma.may_split(remap.old.end))
        {
            return Err(Errno::EINVAL);
        }
        let keeps_source = remap.has(MREMAP_DONTUNMAP);
        // Linux charges a move that shrinks as if it grew by as much.
        let pages = if keeps_source { remap.new_len } else { remap.delta };
        let charge = if vma.has(VmFlags::ACCOUNT) { self.layout.bytes(pages) } else { 0 };
        self.charged(charge, call, |mm, call| mm.move_pages(remap, vma, target, call))?;
        if charge > 0 && remap.old.len() == remap.new_len && !keeps_source {
            // It was a shrink: the charge was only there to be refused. Linux keeps it.
            call.hooks().uncharge(charge);
        }
        if keeps_source {
            self.unlock_left_behind(remap.old.start, call);
            // All its pages have gone (`unlink_anon_vmas`), unless it and the copy have merged.
            let left = self.vma_at(remap.old.start).map(|left| left.range);
            if vma.range == remap.old && left == Some(vma.range) {
                let start = self.layout.bytes(vma.range.start);
                let _ = self.map.update_data(start, LinuxVma::unlink_anon_vma);
            }
        }
        let growth = PageRange::new(target.start + remap.old.len(), target.end);
        self.populate_growth(vma, growth, call);
        Ok(self.layout.bytes(target.start))
    }

    /// Picks the search for the new address as `vrm_set_new_addr` and `__get_unmapped_area` do.
    fn copy_request(
        &self,
        remap: &Remap,
        vma: &VmaView,
        hint: u64,
        map_flags: u64,
    ) -> PlacementRequest {
        let huge = self.layout.huge();
        let len = self.layout.bytes(remap.new_len);
        let start = self.layout.bytes(remap.old.start);
        let object =
            self.map.find_again(start).and_then(|vma| vma.data().object().map(F::alignment));
        let alignment = match object {
            Some(alignment) => vma.huge_page().map_or(alignment, Alignment::HugeTlb),
            None if hint == 0 && huge != 0 && len.is_multiple_of(huge) => Alignment::Huge,
            None => Alignment::Page,
        };
        let offset = match vma.attrs_at(remap.old.start).backing() {
            Backing::Object { offset, .. } => offset,
            Backing::Anonymous => 0,
        };
        let restrictions = vma.restrictions();
        PlacementRequest { addr: hint, len, offset, map_flags, alignment, restrictions }
    }

    /// Moves what is mapped, with what is added behind it (`copy_vma_and_data`,
    /// `unmap_source_vma`).
    fn move_pages<K: Kernel<F> + ?Sized>(
        &mut self,
        remap: &Remap,
        vma: &VmaView,
        target: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let old = remap.old;
        let growth = PageRange::new(target.start + old.len(), target.end);
        let (from, to) = (self.layout.bytes(old.start), self.layout.bytes(target.start));
        // The growth goes first: if the move is refused then, it is easily taken back. Until then
        // it does not merge.
        if !growth.is_empty() {
            let mut data = self.map.find_again(from).ok_or(Errno::EFAULT)?.data().clone();
            // As if it had moved with the old range: else the two would not merge.
            data.relocate(VmRange::from_pages(old, self.layout.page_size()), to);
            let merge = if old.is_empty() { Merge::Both } else { Merge::Never };
            self.insert(growth, vma.attrs_at(old.end), data, merge, call)?;
        }
        if old.is_empty() {
            return Ok(());
        }
        let keeps_source = remap.has(MREMAP_DONTUNMAP);
        let source = if keeps_source { SourceRange::Keep } else { SourceRange::Unmap };
        let len = self.layout.bytes(old.len());
        let moved = self.map.relocate(from, len, to, source, Merge::Both, call);
        if !growth.is_empty() {
            if moved.is_err() {
                self.take_back(growth, call);
            } else {
                // Neighbours that differ stay apart.
                let _ = self.map.merge_at(self.layout.bytes(growth.end), call);
            }
        }
        moved?;
        if keeps_source {
            self.usage.add(vma.flags, len);
        }
        Ok(())
    }

    /// Takes `lo lf` off the whole VMA that holds `page` (`dontunmap_complete`): off the source,
    /// and off the copy if the two have merged.
    ///
    /// The count of locked pages stays, and neighbours that have become equal stay apart. The move
    /// has been done by now, so a hook that refuses leaves the VMA locked, no more.
    fn unlock_left_behind<K: Kernel<F> + ?Sized>(
        &mut self,
        page: u64,
        call: &mut Call<'_, F, A, K>,
    ) {
        let Some(vma) = self.vma_at(page).filter(|vma| vma.has(VmFlags::LOCKED)) else { return };
        let start = self.layout.bytes(vma.range.start);
        let len = self.layout.bytes(vma.range.len());
        let unlocked = with_vm_flags(vma.attrs, vma.flags - VmFlags::LOCK);
        let _ = self.map.update_data(start, |data| data.insert_sticky(StickyFlags::KEEP_APART));
        let _ = self.map.update_attrs(start, len, |_| unlocked, call);
        let _ = self.map.update_data(start, |data| data.remove_sticky(StickyFlags::KEEP_APART));
    }

    /// Brings in what a locked VMA has grown by.
    fn populate_growth<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        growth: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) {
        if vma.has(VmFlags::LOCKED) {
            self.populate_all(growth, call);
        }
    }
}
