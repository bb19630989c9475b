//! The steps that change VMAs: splitting, other flags, a new VMA.

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::{AnonVma, LinuxVma, StickyFlags, vm_flags, with_vm_flags};
use super::vma_view::VmaView;
use crate::split_merge::SplitMerge;
use crate::vma::VmaContext;
use crate::{Attrs, Backing, Errno, MapRequest, Merge, Placement, Vma, VmaNode};

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Returns `true` if there are as many VMAs as allowed, so that none is split in the middle.
    pub(super) fn is_full(&self) -> bool {
        self.map.len() >= self.max_map_count
    }

    /// Returns `true` if there are more VMAs than allowed, so that no new one is mapped.
    pub(super) fn is_over_full(&self) -> bool {
        self.map.len() > self.max_map_count
    }

    /// Splits a VMA at `page` (`__split_vma`). The halves stay apart until one of them changes.
    ///
    /// # Errors
    ///
    /// `EINVAL`: special memory, which cannot be split, or the inside of a huge page. `ENOMEM`:
    /// there is no node.
    pub(super) fn split<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        page: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if !vma.may_split(page) {
            return Err(Errno::EINVAL);
        }
        self.map.split_at(self.layout.bytes(page), call)
    }

    /// Makes `part` a VMA of its own, if it is only a part of `vma` (`split_vma`, twice).
    ///
    /// # Errors
    ///
    /// Those of [`split`](Self::split), and `ENOMEM` if there are too many VMAs. A split at the
    /// start stays if the one at the end is refused, as in Linux.
    pub(super) fn split_ends<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        for page in [part.start, part.end] {
            if vma.range.start < page && page < vma.range.end {
                if self.is_full() {
                    return Err(Errno::ENOMEM);
                }
                self.split(vma, page, call)?;
            }
        }
        Ok(())
    }

    /// Gives `part`, which lies in `vma`, other flags (`vma_modify_flags`). It is merged with the
    /// neighbours that it has become equal to.
    ///
    /// # Errors
    ///
    /// Those of [`split_ends`](Self::split_ends), which is needed unless there is a neighbour to
    /// merge with, and those of the kernel.
    pub(super) fn set_flags<K: Kernel<F> + ?Sized>(
        &mut self,
        vma: &VmaView,
        part: PageRange,
        flags: VmFlags,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if flags == vma.flags {
            return Ok(());
        }
        let new = with_vm_flags(vma.attrs, flags);
        if !self.merges_left(vma, part, &new) && !self.merges_right(vma, part, &new) {
            self.split_ends(vma, part, call)?;
        }
        let (start, len) = (self.layout.bytes(part.start), self.layout.bytes(part.len()));
        self.map.update_attrs(start, len, |vma| with_vm_flags(vma.attrs(), flags), call)?;
        self.usage.remove(vma.flags, len);
        self.usage.add(flags, len);
        Ok(())
    }

    /// Returns `true` if `part` is the head of `vma`, and with the attributes `new` would merge
    /// with the VMA below.
    fn merges_left(&self, vma: &VmaView, part: PageRange, new: &Attrs) -> bool {
        let start = self.layout.bytes(part.start);
        let (Some(left), Some(own)) = (self.map.find_before(start), self.map.find(start)) else {
            return false;
        };
        part.start == vma.range.start
            && left.range().page_range().end == part.start
            && can_merge(&left, &left.attrs(), &own, new)
    }

    /// Returns `true` if `part` is the tail of `vma`, and with the attributes `new` would merge
    /// with the VMA above.
    fn merges_right(&self, vma: &VmaView, part: PageRange, new: &Attrs) -> bool {
        let (start, end) = (self.layout.bytes(vma.range.start), self.layout.bytes(part.end));
        let (Some(own), Some(right)) = (self.map.find(start), self.map.find(end)) else {
            return false;
        };
        part.end == vma.range.end && can_merge(&own, new, &right, &right.attrs())
    }

    /// Puts a new VMA into a range that is free.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no node. `EEXIST`: the range is not free. And those of the kernel.
    pub(super) fn insert<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        attrs: Attrs,
        data: LinuxVma<F>,
        merge: Merge,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        let (start, len) = (self.layout.bytes(range.start), self.layout.bytes(range.len()));
        let request = MapRequest::new(Placement::FixedNoReplace(start), len, attrs);
        self.map.map(request.with_data(data).with_merge(merge), call)?;
        self.usage.add(vm_flags(&attrs), len);
        Ok(())
    }

    /// Sets sticky flags of the VMA that holds `page`, if there is one.
    ///
    /// If they were not set before, the tokens of page faults that have looked it up are
    /// invalidated.
    pub(super) fn add_sticky(&mut self, page: u64, flags: StickyFlags) {
        let addr = self.layout.bytes(page);
        if self.map.find_again(addr).is_some_and(|vma| !vma.data().sticky().contains(flags)) {
            let _ = self.map.update_data(addr, |data| data.insert_sticky(flags));
        }
    }

    /// Notes that the VMA that holds `page`, if there is one, has private pages of its own
    /// (`__anon_vma_prepare`).
    ///
    /// If it had none before, the tokens of page faults that have looked it up are invalidated.
    pub(super) fn prepare_anon_vma(&mut self, page: u64) {
        let addr = self.layout.bytes(page);
        let Some(vma) = self.map.find_again(addr) else { return };
        if vma.data().anon_vma().is_some() {
            return;
        }
        let anon_vma = self.mergeable_anon_vma(&vma).unwrap_or_else(|| {
            let new = AnonVma::after(self.last_anon_vma);
            self.last_anon_vma = Some(new);
            new
        });
        let _ = self.map.update_data(addr, |data| data.set_anon_vma(anon_vma));
    }

    /// Returns that of a neighbour with which `vma` could merge if access were the same
    /// (`find_mergeable_anon_vma`).
    fn mergeable_anon_vma(&self, vma: &Vma<'_, LinuxVma<F>>) -> Option<AnonVma> {
        let range = vma.range().page_range();
        let next = self.map.find(self.layout.bytes(range.end)).filter(|next| goes_with(vma, next));
        let reusable = |neighbour: Vma<'_, LinuxVma<F>>| {
            let has_parents = neighbour.data().sticky().contains(StickyFlags::FORKED);
            neighbour.data().anon_vma().filter(|_| !has_parents)
        };
        next.and_then(reusable).or_else(|| {
            let below = self.map.find_before(vma.start())?;
            let meets = below.range().page_range().end == range.start;
            Some(below).filter(|below| meets && goes_with(below, vma)).and_then(reusable)
        })
    }
}

/// Returns `true` if two VMAs that meet differ in nothing but their access
/// (`anon_vma_compatible`).
fn goes_with<F: File>(left: &Vma<'_, LinuxVma<F>>, right: &Vma<'_, LinuxVma<F>>) -> bool {
    let (left_attrs, right_attrs) = (left.attrs(), right.attrs());
    let (left_page, right_page) = (left.range().page_range(), right.range().page_range().start);
    let continues = match (left_attrs.backing(), right_attrs.backing()) {
        (Backing::Anonymous, Backing::Anonymous) => {
            let pgoff = left.data().anon_pgoff(left_page.start);
            right.data().anon_pgoff(right_page) == pgoff.wrapping_add(left_page.len())
        }
        (Backing::Object { offset, .. }, Backing::Object { offset: right_offset, .. }) => {
            right_offset.checked_sub(offset) == right.start().checked_sub(left.start())
        }
        _ => false,
    };
    let differ = vm_flags(&left_attrs) ^ vm_flags(&right_attrs);
    continues && VmFlags::ACCESS.contains(differ) && left.data().shows_object_of(right.data())
}

/// Returns `true` if two neighbours with these attributes would merge (`can_vma_merge_before` and
/// `_after`).
fn can_merge<F: File>(
    left: &Vma<'_, LinuxVma<F>>,
    left_attrs: &Attrs,
    right: &Vma<'_, LinuxVma<F>>,
    right_attrs: &Attrs,
) -> bool {
    let context = VmaContext::new(left.range().page_size());
    let (left_range, right_range) = (left.range().page_range(), right.range().page_range());
    let left = (left_attrs, left.data());
    let right = (right_attrs, right.data());
    VmaNode::can_merge(context, left, left_range, right, right_range).is_ok()
}
