//! mremap(2)

use super::abi::*;
use super::file::{Alignment, File};
use super::kernel::Kernel;
use super::unmapped_area::PlacementRequest;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks, with_vm_flags};
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Errno, Merge, NodeAlloc, Source, VmaData, VmaNode};

/// One move, shrink or extension of one VMA (`struct vma_remap_struct`). Lengths are whole pages.
#[derive(Clone, Copy, Debug)]
struct Remap {
    old: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    /// Where to, where the caller says so.
    new: u64,
    /// Difference of the lengths that the caller passed.
    delta: u64,
}

impl Remap {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// The caller names a place (`vrm_implies_new_addr`).
    fn implies_place(&self) -> bool {
        self.has(MREMAP_FIXED | MREMAP_DONTUNMAP)
    }

    /// Whether it becomes shorter or stays as long as it is.
    fn shrinks(&self) -> bool {
        self.new_len <= self.old_len
    }

    /// The same for huge pages of `page` bytes: lengths are rounded up to whole ones, and they can
    /// be moved and cut off, but not added (`align_hugetlb`).
    ///
    /// # Errors
    /// `EINVAL`: an address inside of one, even a new address that does not count for want of a
    /// flag; an extension.
    fn in_huge_pages(self, page: u64) -> Result<Self, Errno> {
        let within = page - 1;
        let whole = |len: u64| len.wrapping_add(within) & !within;
        let (old_len, new_len) = (whole(self.old_len), whole(self.new_len));
        if (self.old | self.new) & within != 0 || new_len > old_len {
            return Err(Errno::EINVAL);
        }
        Ok(Self { old_len, new_len, delta: old_len - new_len, ..self })
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// mremap(2). Returns the new address.
    ///
    /// With `MREMAP_FIXED` and equal lengths it moves every VMA in the range (Linux 6.17); those
    /// moved before an error stay moved. A fixed target is emptied, and a tail cut off, before much
    /// of what can fail: they stay gone.
    ///
    /// Like Linux 6.18, `MREMAP_DONTUNMAP` unlocks the VMA it leaves behind without taking its
    /// pages off the count of locked memory, which therefore stays too high until the program ends.
    ///
    /// # Errors
    /// As mremap(2) says, and `EPERM` for what is sealed.
    #[allow(clippy::too_many_arguments)] // The system call's own.
    pub fn mremap<O: Kernel<F>>(
        &mut self,
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u64,
        new: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let (old_len, new_len) = (self.layout.page_up(old_len), self.layout.page_up(new_len));
        let remap = Remap { old, old_len, new_len, flags, new, delta: old_len.abs_diff(new_len) };
        self.check_remap(&remap)?;
        if remap.has(MREMAP_FIXED) && old_len == new_len {
            return self.move_range(&remap, call);
        }
        let region = self.at(old).ok_or(Errno::EFAULT)?;
        let remap = self.prepare_remap(remap, &region, call)?;
        let Remap { old_len, new_len, .. } = remap;
        if remap.implies_place() {
            self.remap_to(remap, call)
        } else if new_len > old_len {
            self.extend(&remap, &region, call)
        } else {
            if new_len < old_len {
                self.munmap(old.wrapping_add(new_len), old_len - new_len, call)?;
            }
            Ok(old)
        }
    }

    /// What can be told from the arguments alone (`check_mremap_params`).
    fn check_remap(&self, remap: &Remap) -> Result<(), Errno> {
        let Remap { old, old_len, new_len, flags, new, .. } = *remap;
        let task_size = self.layout.task_size();
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        if flags & !known != 0
            || !self.layout.is_aligned(old)
            || new_len == 0
            || new_len > task_size
        {
            return Err(Errno::EINVAL);
        }
        if !remap.implies_place() {
            return Ok(());
        }
        let overlap = old.wrapping_add(old_len) > new && new.wrapping_add(new_len) > old;
        if new > task_size - new_len
            || !self.layout.is_aligned(new)
            || !remap.has(MREMAP_MAYMOVE)
            || (remap.has(MREMAP_DONTUNMAP) && old_len != new_len)
            || overlap
        {
            return Err(Errno::EINVAL);
        }
        // The target and the source may each be cut in three.
        if self.map.len() + 2 >= self.max_map_count.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Moves every VMA in the old range, with the holes between them (`remap_move`).
    fn move_range<O: Kernel<F>>(
        &mut self,
        remap: &Remap,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let Remap { old, old_len, new, .. } = *remap;
        let end = old.wrapping_add(old_len);
        let mut at = old;
        while let Some(region) = self.first_in(at, end) {
            let from = region.start.max(at);
            if at == old && from != old {
                return Err(Errno::EFAULT);
            }
            let len = region.end.min(end) - from;
            let piece =
                Remap { old: from, old_len: len, new_len: len, new: new + (from - old), ..*remap };
            let piece = self.prepare_remap(piece, &region, call)?;
            self.remap_to(piece, call)?;
            at = from + len;
        }
        if at == old { Err(Errno::EFAULT) } else { Ok(new) }
    }

    /// What can be told from the VMA (`check_prep_vma`). Returns what is to be done, in huge pages
    /// if the VMA is made of them.
    fn prepare_remap<O: Kernel<F>>(
        &self,
        remap: Remap,
        region: &VmaView,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Remap, Errno> {
        if region.has(VmFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        let remap = match region.huge_page() {
            Some(page) => remap.in_huge_pages(page)?,
            None => remap,
        };
        if remap.shrinks() && !remap.implies_place() {
            return Ok(remap);
        }
        let rigid = region.has_any(VmFlags::DONT_EXPAND | VmFlags::PFN_MAP);
        // A second mapping of a private one would share nothing with it.
        if remap.old_len == 0 && !region.has_any(VmFlags::SHARED | VmFlags::MAY_SHARE) {
            return Err(Errno::EINVAL);
        }
        if remap.has(MREMAP_DONTUNMAP) && rigid {
            return Err(Errno::EINVAL);
        }
        // What a shrink removes may span VMAs; what is moved or extended may not.
        if remap.old_len.min(remap.new_len) > region.end - remap.old {
            return Err(Errno::EFAULT);
        }
        let growth = remap.delta;
        if remap.shrinks() {
            return Ok(remap);
        }
        if rigid {
            return Err(Errno::EFAULT);
        }
        if !self.may_lock_more(region.flags, growth, call.hooks().capabilities()) {
            return Err(Errno::EAGAIN);
        }
        if !self.may_expand(region.flags, self.layout.pages(growth)) {
            return Err(Errno::ENOMEM);
        }
        Ok(remap)
    }

    /// `MREMAP_FIXED` or `MREMAP_DONTUNMAP` (`mremap_to`).
    fn remap_to<O: Kernel<F>>(
        &mut self,
        mut remap: Remap,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        if remap.has(MREMAP_FIXED) {
            self.munmap(remap.new, remap.new_len, call)?;
            // An old length that wraps lets the target lie over the start.
            self.at(remap.old).ok_or(Errno::EFAULT)?;
        }
        if remap.new_len < remap.old_len {
            self.munmap(
                remap.old.wrapping_add(remap.new_len),
                remap.old_len - remap.new_len,
                call,
            )?;
            remap.old_len = remap.new_len;
        }
        // Either may have cut the VMA in two.
        let region = self.at(remap.old).ok_or(Errno::EFAULT)?;
        if remap.has(MREMAP_DONTUNMAP)
            && !self.may_expand(region.flags, self.layout.pages(remap.old_len))
        {
            return Err(Errno::ENOMEM);
        }
        let hint = remap.new;
        let map_flags = if remap.has(MREMAP_FIXED) { MAP_FIXED } else { 0 };
        self.move_region(&remap, &region, hint, map_flags, call)
    }

    /// Grows, in place if it can be (`expand_vma`).
    fn extend<O: Kernel<F>>(
        &mut self,
        remap: &Remap,
        region: &VmaView,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let growth = remap.delta;
        let end = region.end.wrapping_add(growth);
        let whole = PlacementRequest {
            addr: region.start,
            len: end.wrapping_sub(region.start),
            offset: 0,
            map_flags: MAP_FIXED,
            alignment: Alignment::Page,
        };
        let in_place = region.end - remap.old == remap.old_len
            && end > region.end
            && self.first_in(region.end, end.saturating_add(self.policy.guard())).is_none()
            && self.get_unmapped_area(&whole, call.hooks().capabilities()).is_ok();
        if in_place {
            self.extend_in_place(region, end, call)?;
            self.populate_growth(region, region.end, end, call);
            return Ok(remap.old);
        }
        if !remap.has(MREMAP_MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        self.move_region(remap, region, 0, 0, call)
    }

    /// Appends to a VMA, and joins it with what then follows (`vma_merge_extend`).
    fn extend_in_place<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let pages = self.layout.pages(end - region.end);
        let accounted = region.has(VmFlags::ACCOUNT);
        if accounted {
            call.hooks().charge(pages, &self.usage)?;
        }
        let Some(vma) = self.map.find(region.start) else { return Err(Errno::EFAULT) };
        let (backing, data) = (vma.attrs().advance(vma.pages()).backing(), vma.data().clone());
        let attrs = region.attrs.with_backing(backing);
        let appended = self.insert(region.end, end, attrs, data, Merge::Both, call);
        if appended.is_err() && accounted {
            call.hooks().uncharge(pages);
        }
        appended
    }

    /// Finds a place and moves there (`vrm_set_new_addr`, `move_vma`). `hint` is 0 where anywhere
    /// will do.
    fn move_region<O: Kernel<F>>(
        &mut self,
        remap: &Remap,
        region: &VmaView,
        hint: u64,
        map_flags: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let caps = call.hooks().capabilities();
        let target =
            self.get_unmapped_area(&self.wanted_copy(remap, region, hint, map_flags), caps)?;
        // Emptying the source may cut it, and the copy is one more VMA (`prep_move_vma`).
        if self.map.len() >= self.max_map_count.saturating_sub(3) {
            return Err(Errno::ENOMEM);
        }
        let old_end = remap.old.wrapping_add(remap.old_len);
        let whole = region.start == remap.old && region.end == old_end;
        if (region.start != remap.old && !region.may_split(remap.old))
            || (region.end != old_end && !region.may_split(old_end))
        {
            return Err(Errno::EINVAL);
        }
        // Linux charges a move that shrinks as if it grew by as much.
        let new_bytes = if remap.has(MREMAP_DONTUNMAP) { remap.new_len } else { remap.delta };
        let pages = self.layout.pages(new_bytes);
        let accounted = region.has(VmFlags::ACCOUNT) && pages > 0;
        if accounted {
            call.hooks().charge(pages, &self.usage)?;
        }
        if let Err(errno) = self.move_to(remap, region, target, call) {
            if accounted {
                call.hooks().uncharge(pages);
            }
            return Err(errno);
        }
        if accounted && remap.old_len == remap.new_len && !remap.has(MREMAP_DONTUNMAP) {
            // A shrink: the charge was only there to be refused. Linux keeps it.
            call.hooks().uncharge(pages);
        }
        if remap.has(MREMAP_DONTUNMAP) {
            self.unlock_left_behind(remap.old, call)?;
            // All its pages have gone (`unlink_anon_vmas`), unless it and the copy have become one.
            if whole
                && self
                    .at(remap.old)
                    .is_some_and(|left| left.start == region.start && left.end == region.end)
            {
                let _ = self.map.update_data(remap.old, |data| data.unmark(Marks::HAS_ANON_VMA));
            }
        }
        self.populate_growth(region, target + remap.old_len, target + remap.new_len, call);
        Ok(target)
    }

    /// How `vrm_set_new_addr` and `__get_unmapped_area` pick a search.
    fn wanted_copy(
        &self,
        remap: &Remap,
        region: &VmaView,
        hint: u64,
        map_flags: u64,
    ) -> PlacementRequest {
        let huge = self.layout.huge();
        let object = self.map.find(remap.old).and_then(|vma| vma.data().object().map(F::alignment));
        let alignment = match object {
            Some(placement) => region.huge_page().map_or(placement, Alignment::HugeTlb),
            None if hint == 0 && huge != 0 && remap.new_len.is_multiple_of(huge) => Alignment::Huge,
            None => Alignment::Page,
        };
        let offset = match object {
            Some(_) => {
                self.layout.bytes(region.offset_at(remap.old, self.layout.page_size().shift()))
            }
            None => 0,
        };
        PlacementRequest { addr: hint, len: remap.new_len, offset, map_flags, alignment }
    }

    /// Moves what is there, with what is added behind it (`copy_vma_and_data`, `unmap_source_vma`).
    fn move_to<O: Kernel<F>>(
        &mut self,
        remap: &Remap,
        region: &VmaView,
        target: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let Remap { old, old_len, new_len, .. } = *remap;
        let (middle, end) = (target + old_len, target + new_len);
        // What is added goes first: if there is no memory for the rest, it is easily taken back.
        if middle < end {
            let Some(vma) = self.map.find(old) else { return Err(Errno::EFAULT) };
            let ahead = self.layout.pages(old - vma.start() + old_len);
            let (backing, mut data) = (vma.attrs().advance(ahead).backing(), vma.data().clone());
            // Part of what moves: else the two would not meet.
            data.relocate(
                self.layout.pages(target).cast_signed() - self.layout.pages(old).cast_signed(),
            );
            self.insert(middle, end, region.attrs.with_backing(backing), data, Merge::Both, call)?;
        }
        if old_len == 0 {
            return Ok(());
        }
        let source = if remap.has(MREMAP_DONTUNMAP) { Source::Keep } else { Source::Unmap };
        if let Err(error) = self.map.relocate(old, old_len, target, source, Merge::Both, call) {
            if middle < end {
                self.take_back(middle, end, call);
            }
            return Err(error.into());
        }
        if source == Source::Keep {
            self.usage.add(region.flags, self.layout.pages(old_len));
        }
        Ok(())
    }

    /// Takes `lo lf` off the whole VMA that holds `old` (`dontunmap_complete`): of the source, and
    /// of the copy if the two have become one. The count of locked pages stays, and neighbours that
    /// have become equal stay apart.
    fn unlock_left_behind<O: Kernel<F>>(
        &mut self,
        old: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let Some(region) = self.at(old).filter(|region| region.has(VmFlags::LOCKED)) else {
            return Ok(());
        };
        let len = region.end - region.start;
        let unlocked = with_vm_flags(region.attrs, region.flags - VmFlags::LOCK);
        self.map.update_data(old, |data| data.mark(Marks::APART))?;
        let result = self.map.update_attrs(region.start, len, |_| unlocked, call);
        self.map.update_data(old, |data| data.unmark(Marks::APART))?;
        Ok(result?)
    }

    /// A locked VMA stays in memory when it grows.
    fn populate_growth<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) {
        if region.has(VmFlags::LOCKED) && start < end {
            self.populate_all(start, end, call);
        }
    }
}
