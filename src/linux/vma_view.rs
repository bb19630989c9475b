//! [`VmaView`]: a VMA as a call sees it, and the ways to get at one.

use super::PageRange;
use super::file::{File, Restrictions};
use super::mm::{Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Role, StickyFlags, vm_flags};
use crate::{Attrs, Backing, PageSize, Vma};

/// A copy of a VMA, so that the map may change meanwhile. Counts in pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct VmaView {
    pub(super) range: PageRange,
    pub(super) attrs: Attrs,
    pub(super) flags: VmFlags,
    pub(super) role: Role,
    sticky: StickyFlags,
    restrictions: Restrictions,
    page_size: PageSize,
}

impl VmaView {
    pub(super) fn new<F: File>(vma: Vma<'_, LinuxVma<F>>) -> Self {
        let (range, attrs) = (vma.range(), vma.attrs());
        Self {
            range: range.page_range(),
            attrs,
            flags: vm_flags(&attrs),
            role: vma.data().role(),
            sticky: vma.data().sticky(),
            restrictions: vma.data().restrictions(),
            page_size: range.page_size(),
        }
    }

    /// Returns `true` if all of `flags` are set.
    pub(super) fn has(&self, flags: VmFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Returns `true` if at least one of `flags` is set.
    pub(super) fn has_any(&self, flags: VmFlags) -> bool {
        self.flags.intersects(flags)
    }

    /// Returns `true` if the VMA may have private pages of its own.
    pub(super) fn has_anon_vma(&self) -> bool {
        self.sticky.contains(StickyFlags::HAS_ANON_VMA)
    }

    /// Returns `true` if calls may not do any of `these` to the VMA.
    pub(super) fn forbids(&self, these: Restrictions) -> bool {
        self.restrictions.intersects(these)
    }

    /// Returns what calls may not do to the VMA.
    pub(super) fn restrictions(&self) -> Restrictions {
        self.restrictions
    }

    /// Returns `true` if the VMA may be split at `page`: special memory nowhere, huge pages only
    /// between them (`vm_ops->may_split`).
    pub(super) fn may_split(&self, page: u64) -> bool {
        self.attrs.split_granularity().allows(self.page_size.addr(page))
    }

    /// Returns the size of the huge pages that the VMA is made of, in bytes (`hstate_vma`).
    pub(super) fn huge_page(&self) -> Option<u64> {
        if self.has(VmFlags::HUGE_TLB) { self.attrs.split_granularity().bytes() } else { None }
    }

    /// Returns `true` if the VMA maps an object: a file, or shared memory.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.attrs.backing(), Backing::Object { .. })
    }

    /// Returns `true` if the VMA is private memory without an object (`vma_is_anonymous`).
    pub(super) fn is_anonymous(&self) -> bool {
        !self.is_file() && self.role != Role::Special
    }

    /// Returns the attributes of the part that begins at `page`, or of what would continue the VMA
    /// there.
    pub(super) fn attrs_at(&self, page: u64) -> Attrs {
        self.attrs.advance(self.page_size.addr(page - self.range.start))
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Finds the VMA that holds `page` (`vma_lookup`).
    pub(super) fn vma_at(&self, page: u64) -> Option<VmaView> {
        self.map.find_again(self.layout.bytes(page)).map(VmaView::new)
    }

    /// Finds the VMA that holds `page`, or else the next one above (`find_vma`).
    pub(super) fn vma_at_or_above(&self, page: u64) -> Option<VmaView> {
        self.map.find_from(self.layout.bytes(page)).map(VmaView::new)
    }

    /// Finds the last VMA that starts below `page`.
    pub(super) fn vma_below(&self, page: u64) -> Option<VmaView> {
        self.map.find_before(self.layout.bytes(page)).map(VmaView::new)
    }

    /// Finds the first VMA that has a page in `range` (`vma_find`).
    pub(super) fn first_in(&self, range: PageRange) -> Option<VmaView> {
        self.vma_at_or_above(range.start).filter(|vma| !vma.range.intersect(range).is_empty())
    }

    /// Iterates over the VMAs that have a page in `range`, whole and in ascending order: each with
    /// the number of its pages in the range.
    pub(super) fn vmas_in(
        &self,
        range: PageRange,
    ) -> impl Iterator<Item = (Vma<'_, LinuxVma<F>>, u64)> {
        let pages =
            move |vma: &Vma<'_, LinuxVma<F>>| vma.range().page_range().intersect(range).len();
        self.map.vmas_in(range).map(move |vma| (vma, pages(&vma)))
    }

    /// Returns the first page above which something new must end if `next` is the VMA that follows
    /// (`vm_start_gap`).
    pub(super) fn guarded_start(&self, next: &VmaView) -> u64 {
        let gap = if next.has(VmFlags::GROWS_DOWN) {
            self.layout.pages(self.layout.guard_gap())
        } else {
            u64::from(next.has(VmFlags::SHADOW_STACK))
        };
        next.range.start.saturating_sub(gap)
    }
}
