//! The steps that all calls are made of, with their bookkeeping.

use super::file::File;
use super::kernel::{Capabilities, Kernel, PageOp};
use super::limits::Resource;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks, Role, vm_flags, with_vm_flags};
use super::{Call, Mm};
use crate::{
    Attrs, Backing, Errno, MapRequest, Merge, NodeAlloc, Piece, Placement, VmMap, VmRange, Vma,
    VmaNode,
};

/// A VMA as a call sees it, copied out so that the map may change meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct VmaView {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attrs: Attrs,
    pub(super) flags: VmFlags,
    pub(super) role: Role,
    pub(super) marks: Marks,
}

impl VmaView {
    fn new<F: File>(vma: Vma<'_, LinuxVma<F>>) -> Self {
        let range = vma.range();
        let attrs = vma.attrs();
        let (role, marks) = (vma.data().role(), vma.data().marks());
        // User space ends far below 2^64 (`Layout::check`).
        let end = range.last().wrapping_add(1);
        Self { start: range.start(), end, attrs, flags: vm_flags(&attrs), role, marks }
    }

    pub(super) fn has(&self, flags: VmFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Has pages of its own.
    pub(super) fn is_touched(&self) -> bool {
        self.marks.contains(Marks::HAS_ANON_VMA)
    }

    pub(super) fn has_any(&self, flags: VmFlags) -> bool {
        self.flags.intersects(flags)
    }

    /// Whether it may be cut at `addr`: special memory nowhere, huge pages only between them
    /// (`vm_ops->may_split`).
    pub(super) fn may_split(&self, addr: u64) -> bool {
        self.attrs.flags().split_granularity().allows(addr)
    }

    /// Bytes of the huge pages that it is made of (`hstate_vma`).
    pub(super) fn huge_page(&self) -> Option<u64> {
        if self.has(VmFlags::HUGE_TLB) {
            self.attrs.flags().split_granularity().bytes()
        } else {
            None
        }
    }

    /// Shows an object: a file, or shared memory.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.attrs.backing(), Backing::Object { .. })
    }

    /// Private memory of its own (`vma_is_anonymous`).
    pub(super) fn is_anonymous(&self) -> bool {
        !self.is_file() && self.role != Role::Special
    }

    /// Page offset in the object (`vm_pgoff`) of the byte at `addr`; of memory without an object,
    /// its page number.
    pub(super) fn offset_at(&self, addr: u64, page_shift: u32) -> u64 {
        let pages = addr.wrapping_sub(self.start) >> page_shift;
        match self.attrs.backing() {
            Backing::Anonymous => addr >> page_shift,
            Backing::Object { offset, .. } => offset.wrapping_add(pages),
        }
    }
}

impl VmFlags {
    /// The flags of a VMA.
    pub fn of<F: File>(vma: &Vma<'_, LinuxVma<F>>) -> Self {
        let mut flags = vm_flags(&vma.attrs());
        flags.set(VmFlags::MAYBE_GUARD, vma.data().marks().contains(Marks::GUARDS));
        flags
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The VMA that holds `addr` (`vma_lookup`).
    pub(super) fn at(&self, addr: u64) -> Option<VmaView> {
        self.map.find(addr).map(VmaView::new)
    }

    /// The VMA that holds `addr`, or the next one above (`find_vma`).
    pub(super) fn at_or_above(&self, addr: u64) -> Option<VmaView> {
        self.map.find_from(addr).map(VmaView::new)
    }

    /// The last VMA that starts below `addr`.
    pub(super) fn below(&self, addr: u64) -> Option<VmaView> {
        self.map.find_before(addr).map(VmaView::new)
    }

    /// The first VMA that shares a byte with `start..end` (`vma_find`); none if that is empty.
    pub(super) fn first_in(&self, start: u64, end: u64) -> Option<VmaView> {
        self.at_or_above(start).filter(|region| start < end && region.start < end)
    }

    /// The lowest address that something new may not reach if `region` is what comes next
    /// (`vm_start_gap`).
    pub(super) fn guarded_start(&self, region: &VmaView) -> u64 {
        let gap = if region.has(VmFlags::GROWS_DOWN) {
            self.layout.guard_gap()
        } else if region.has(VmFlags::SHADOW_STACK) {
            self.layout.page_size().bytes()
        } else {
            0
        };
        region.start.saturating_sub(gap)
    }

    /// No more VMAs may be made by a split in the middle.
    pub(super) fn is_full(&self) -> bool {
        self.map.len() >= self.max_map_count
    }

    /// Whether there are more VMAs than there may be, so that no new one is made.
    pub(super) fn is_over_full(&self) -> bool {
        self.map.len() > self.max_map_count
    }

    /// Cuts a VMA in two (`__split_vma`). The halves stay apart until something changes one of
    /// them.
    ///
    /// # Errors
    /// `EINVAL` for special memory, which has no halves, and inside a huge page; `ENOMEM` without a
    /// node.
    pub(super) fn split<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        at: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if !region.may_split(at) {
            return Err(Errno::EINVAL);
        }
        call.check_alloc(self.map.alloc())?;
        Ok(self.map.split_with(at, &mut call.nodes)?)
    }

    /// As [`split`](Self::split), where the number of VMAs is limited (`split_vma`).
    fn split_counted<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        at: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if self.is_full() {
            return Err(Errno::ENOMEM);
        }
        self.split(region, at, call)
    }

    /// Gives `start..end`, a part of `region`, other flags (`vma_modify_flags`): joined with a
    /// neighbour where it has become equal to it, else cut out. A cut that was made before an error
    /// stays, as in Linux.
    pub(super) fn set_flags<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        flags: VmFlags,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if flags == region.flags {
            return Ok(());
        }
        let new = with_vm_flags(region.attrs, flags);
        if !self.joins_left(region, start, &new) && !self.joins_right(region, end, &new) {
            if region.start < start {
                self.split_counted(region, start, call)?;
            }
            if end < region.end {
                self.split_counted(region, end, call)?;
            }
        }
        self.map.update_attrs(start, end - start, |vma| with_vm_flags(vma.attrs(), flags), call)?;
        let pages = self.layout.pages(end - start);
        self.usage.remove(region.flags, pages);
        self.usage.add(flags, pages);
        Ok(())
    }

    /// Whether `region` with the attributes `new` would join the VMA that ends where it starts.
    fn joins_left(&self, region: &VmaView, start: u64, new: &Attrs) -> bool {
        let (Some(left), Some(own)) = (self.map.find_before(region.start), self.map.find(start))
        else {
            return false;
        };
        start == region.start
            && left.last().wrapping_add(1) == start
            && joins(&left.attrs(), left.data(), left.pages(), new, own.data())
    }

    /// Whether `region` with the attributes `new` would join the VMA that starts where it ends.
    fn joins_right(&self, region: &VmaView, end: u64, new: &Attrs) -> bool {
        let (Some(right), Some(own)) = (self.map.find(end), self.map.find(region.start)) else {
            return false;
        };
        end == region.end && joins(new, own.data(), own.pages(), &right.attrs(), right.data())
    }

    /// Puts a new VMA into a free range.
    pub(super) fn insert<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        attrs: Attrs,
        data: LinuxVma<F>,
        merge: Merge,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let request = MapRequest::new(Placement::FixedNoReplace(start), end - start, attrs);
        self.map.map(request.with_data(data).with_merge(merge), call)?;
        self.usage.add(vm_flags(&attrs), self.layout.pages(end - start));
        Ok(())
    }

    /// Whether `pages` more pages with `flags` stay within the limits on the address space and on
    /// data (`may_expand_vm`).
    pub(super) fn may_expand(&self, flags: VmFlags, pages: u64) -> bool {
        let fits = |used: u64, limit| used.saturating_add(pages) <= self.layout.pages(limit);
        let (space, data) =
            (self.limits.get(Resource::AddressSpace), self.limits.get(Resource::Data));
        let data = if data == 0 { self.limits.get(Resource::DataMax) } else { data };
        fits(self.usage.total(), space) && (!flags.is_data() || fits(self.usage.data(), data))
    }

    /// Whether the caller may lock anything at all (`can_do_mlock`).
    pub(super) fn may_lock(&self, caps: Capabilities) -> bool {
        self.limits.get(Resource::MemLock) != 0 || caps.contains(Capabilities::IPC_LOCK)
    }

    /// Whether `bytes` more bytes with `flags` stay within the limit on locked memory
    /// (`mlock_future_ok`).
    pub(super) fn may_lock_more(&self, flags: VmFlags, bytes: u64, caps: Capabilities) -> bool {
        let limit = self.layout.pages(self.limits.get(Resource::MemLock));
        !flags.contains(VmFlags::LOCKED)
            || caps.contains(Capabilities::IPC_LOCK)
            || self.usage.locked().saturating_add(self.layout.pages(bytes)) <= limit
    }

    /// Has the owner work on what is mapped in `start..end`, a part of `region`. Where that may
    /// take page-table entries away, tokens die before, and a flush follows, whatever the owner
    /// answers.
    pub(super) fn page_op<O: Kernel<F>>(
        &mut self,
        action: PageOp,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let range = VmRange::new(start, self.layout.pages(end - start), self.layout.page_size())?;
        let work = |map: &VmMap<LinuxVma<F>, A>, call: &mut Call<'_, F, A, O>| {
            let Some(vma) = map.find(start) else { return Ok(()) };
            let ahead = range.span().start - vma.range().span().start;
            call.hooks().page_op(action, &Piece::new(range, vma.attrs().advance(ahead), vma.data()))
        };
        if !action.takes_entries() {
            return work(&self.map, call);
        }
        call.check_alloc(self.map.alloc())?;
        self.map.invalidate_range(range.span(), call, work)
    }

    /// Notes what has happened to the VMA at `addr`. Page faults that have looked it up look again,
    /// unless it was noted before.
    pub(super) fn mark(&mut self, addr: u64, marks: Marks) {
        if self.map.find(addr).is_some_and(|vma| !vma.data().marks().contains(marks)) {
            // An address in a hole has nothing to note.
            let _ = self.map.update_data(addr, |data| data.mark(marks));
        }
    }

    /// Brings in what is mapped in `start..end` (`__mm_populate`), up to the first error.
    ///
    /// # Errors
    /// `ENOMEM` for memory without access, and what the owner says.
    pub(super) fn populate<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let mut at = start;
        while let Some(region) = self.first_in(at, end) {
            self.populate_region(&region, region.start.max(start), region.end.min(end), call)?;
            at = region.end;
        }
        Ok(())
    }

    /// Brings in what can be brought in (`mm_populate`): for calls that have succeeded by then,
    /// whatever comes of it.
    pub(super) fn populate_all<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) {
        let mut at = start;
        while let Some(region) = self.first_in(at, end) {
            let _ =
                self.populate_region(&region, region.start.max(start), region.end.min(end), call);
            at = region.end;
        }
    }

    /// `populate_vma_page_range`
    fn populate_region<O: Kernel<F>>(
        &mut self,
        region: &VmaView,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if region.has_any(VmFlags::IO | VmFlags::PFN_MAP | VmFlags::LOCK_ON_FAULT) {
            return Ok(());
        }
        if !region.has_any(VmFlags::ACCESS) {
            return Err(Errno::ENOMEM);
        }
        // Private memory is written to, so that it need not be copied later. Whether all of it can
        // be comes out later.
        if region.flags & (VmFlags::WRITE | VmFlags::SHARED) == VmFlags::WRITE {
            self.mark(start, Marks::HAS_ANON_VMA);
        }
        self.page_op(PageOp::Populate, start, end, call)
    }
}

/// Whether two neighbours are the same but for where they lie (`can_vma_merge_before` and
/// `_after`).
fn joins<F: File>(
    left: &Attrs,
    left_data: &LinuxVma<F>,
    pages: u64,
    right: &Attrs,
    right_data: &LinuxVma<F>,
) -> bool {
    use crate::{VmaData, VmaFlags};
    left.advance(pages) == *right
        && !left.flags().contains(VmaFlags::NO_MERGE)
        && left_data.can_merge(pages, right_data)
}
