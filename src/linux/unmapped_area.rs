//! The search for a place for a mapping (`get_unmapped_area` and what it calls).
//!
//! The search is for an address, so this counts in bytes. The result is a range of pages.

use super::PageRange;
use super::abi::{MAP_32BIT, MAP_ABOVE4G, MAP_FIXED};
use super::file::{Alignment, File, Restrictions};
use super::kernel::Capabilities;
use super::layout::{Layout, round_up};
use super::mm::{Mm, MmAlloc};
use super::vm_flags::VmFlags;
use super::vma_view::VmaView;
use crate::vma::GuardGaps;
use crate::{Direction, Errno, Search};

/// A mapping that is to be placed. All numbers are in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacementRequest {
    /// The hint, or with `MAP_FIXED` the address. 0 is no hint.
    pub(super) addr: u64,
    pub(super) len: u64,
    /// Offset in the object.
    pub(super) offset: u64,
    /// `MAP_FIXED`, `MAP_32BIT` and `MAP_ABOVE4G` count.
    pub(super) map_flags: u64,
    pub(super) alignment: Alignment,
    /// [`Restrictions::NO_ADDRESS`] counts.
    pub(super) restrictions: Restrictions,
}

impl PlacementRequest {
    /// Asks for `len` bytes anywhere, for memory without an object.
    pub(super) const fn anywhere(len: u64) -> Self {
        Self {
            addr: 0,
            len,
            offset: 0,
            map_flags: 0,
            alignment: Alignment::Page,
            restrictions: Restrictions::empty(),
        }
    }

    /// Asks for `len` bytes at `addr`.
    pub(super) const fn fixed(addr: u64, len: u64) -> Self {
        Self { addr, map_flags: MAP_FIXED, ..Self::anywhere(len) }
    }

    fn has(&self, flag: u64) -> bool {
        self.map_flags & flag != 0
    }
}

/// The free range to search for (`struct vm_unmapped_area_info`).
#[derive(Clone, Copy, Debug)]
struct UnmappedAreaInfo {
    len: u64,
    /// The bits of the address that are fixed.
    align_mask: u64,
    /// Their value.
    align_offset: u64,
}

impl UnmappedAreaInfo {
    /// Describes a free range for `request`, of which the first `guard` bytes do not count for the
    /// alignment.
    fn new(request: &PlacementRequest, guard: u64, layout: &Layout) -> Self {
        let align_mask = match request.alignment {
            Alignment::HugeTlb(page) => layout.page_down(page.saturating_sub(1)),
            Alignment::Page | Alignment::Huge | Alignment::HugeShmem => 0,
        };
        Self { len: request.len, align_mask, align_offset: guard.wrapping_neg() & align_mask }
    }

    /// Returns the length that Linux searches for: what the alignment costs in the worst case is
    /// added, so that a gap which fits exactly is not found.
    fn padded_len(&self) -> Option<u64> {
        self.len.checked_add(self.align_mask)
    }
}

const GIB: u64 = 1 << 30;

/// VMAs that keep a gap below them (`VM_STARTGAP_FLAGS`).
const STACKS: VmFlags = VmFlags::GROWS_DOWN.union(VmFlags::SHADOW_STACK);

/// The number of VMAs that a search from the top looks at for guard gaps which reach across them.
/// Beyond these, it leaves such guard gaps out of account: so it is O(log n), and answers as Linux
/// does as long as a program has not put that many VMAs in its way. Few in tests, so that they meet
/// more.
const REACH: usize = if cfg!(all(test, not(loom))) { 128 } else { 1024 };
/// The weight of a gap among them.
const PER_GAP: usize = 16;
/// The number of gaps that a search from the bottom looks at as Linux does where the address is to
/// be aligned. Beyond these, it looks for one that is long enough wherever it lies.
const ALIGNED: usize = 64;

/// Returns what searches for a gap leave free below VMAs: the guard gaps of stacks.
pub(super) fn guard_gaps(layout: &Layout) -> GuardGaps {
    let grows_down = layout.pages(layout.guard_gap());
    GuardGaps { grows_down, one_page: VmFlags::SHADOW_STACK.bits() }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Returns the address at which mmap would put `len` bytes of memory without an object if it
    /// got no hint.
    ///
    /// For what the kernel itself maps, such as `[vdso]`, and then [installs](Self::install) there.
    /// O(log n).
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no gap of that length.
    ///
    /// ```
    /// # use kvma::linux::{Layout, Mm, NoFile, NoKernel};
    /// # use kvma::{Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let mut mm = Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?;
    /// let at = mm.unmapped_area(0x2000)?;
    /// assert_eq!(at % 0x1000, 0);
    /// assert_eq!(mm.unmapped_area(1 << 48), Err(Errno::ENOMEM));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn unmapped_area(&self, len: u64) -> Result<u64, Errno> {
        let request = PlacementRequest::anywhere(self.layout.page_up(len));
        let range = self.get_unmapped_area(&request, Capabilities::empty())?;
        Ok(self.layout.bytes(range.start))
    }

    /// Finds the range for a mapping; with `MAP_FIXED`, only checks it.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: there is no gap, or the range leaves user space.
    /// - `EINVAL`: a fixed address is not aligned, or the file takes none.
    /// - `EPERM`: the address is too low for a caller without privileges.
    pub(super) fn get_unmapped_area(
        &self,
        request: &PlacementRequest,
        caps: Capabilities,
    ) -> Result<PageRange, Errno> {
        let last = self.layout.task_size().checked_sub(request.len).ok_or(Errno::ENOMEM)?;
        if request.addr != 0 && request.restrictions.contains(Restrictions::NO_ADDRESS) {
            return Err(Errno::EINVAL);
        }
        let addr = match request.alignment {
            Alignment::Huge => {
                self.search_huge(request).map_or_else(|| self.search_plain(request), Ok)?
            }
            Alignment::HugeTlb(page) => self.search_huge_tlb(request, page)?,
            Alignment::HugeShmem => {
                let found = self.search_plain(request)?;
                self.search_huge_shmem(request, found).unwrap_or(found)
            }
            Alignment::Page => self.search_plain(request)?,
        };
        if addr > last {
            return Err(Errno::ENOMEM);
        }
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr < self.layout.user_min_addr() && !caps.contains(Capabilities::SYS_RAWIO) {
            return Err(Errno::EPERM);
        }
        Ok(self.layout.range(addr, request.len))
    }

    /// Searches for one huge page more than is asked for, and returns the address in that range
    /// where huge pages fit (`__thp_get_unmapped_area`). `None` if that is of no use, or not to be
    /// found.
    fn search_huge(&self, request: &PlacementRequest) -> Option<u64> {
        let huge = self.layout.huge();
        if huge == 0 {
            return None;
        }
        // Linux computes this in signed 64 bits.
        let signed = |offset: u64| i64::try_from(offset).ok();
        let end = signed(request.offset.checked_add(request.len)?)?;
        let aligned = signed(request.offset.checked_next_multiple_of(huge)?)?;
        if end.checked_sub(aligned)? < signed(huge)? {
            return None;
        }
        let padded = request.len.checked_add(huge)?;
        signed(request.offset.checked_add(padded)?)?;
        let found = self.search_plain(&PlacementRequest { len: padded, ..*request }).ok()?;
        if found == request.addr {
            return Some(found);
        }
        let shift = request.offset.wrapping_sub(found) & (huge - 1);
        if shift == 0 && self.layout.direction() == Direction::TopDown {
            Some(found + huge)
        } else {
            Some(found + shift)
        }
    }

    /// Searches for a place where huge pages fit, after the plain search has `found` one
    /// (`shmem_get_unmapped_area`). `None` if they fit there, are of no use, or fit nowhere.
    fn search_huge_shmem(&self, request: &PlacementRequest, found: u64) -> Option<u64> {
        let (huge, len) = (self.layout.huge(), request.len);
        let last = self.layout.task_size().checked_sub(len)?;
        // A fixed address is found where it was asked for.
        if found == request.addr {
            return None;
        }
        if huge == 0 || len < huge {
            return None;
        }
        let offset = request.offset & (huge - 1);
        if (offset != 0 && offset + len < 2 * huge) || found & (huge - 1) == offset {
            return None;
        }
        let padded = len.checked_add(huge - self.layout.page_size().bytes())?;
        let padded = PlacementRequest { len: padded, ..*request };
        let start = self.search_plain(&padded).ok()?;
        let within = start & (huge - 1);
        let shift = if within > offset { huge } else { 0 };
        Some(start + offset + shift - within).filter(|&addr| addr <= last)
    }

    /// Searches for a range that consists of huge pages of `page` bytes
    /// (`hugetlb_get_unmapped_area`).
    fn search_huge_tlb(&self, request: &PlacementRequest, page: u64) -> Result<u64, Errno> {
        let within = page.checked_sub(1).ok_or(Errno::EINVAL)?;
        if request.has(MAP_FIXED) && request.addr & within != 0 {
            return Err(Errno::EINVAL);
        }
        // Near the top of 64 bits this is 0, and no hint.
        let addr = round_up(request.addr, page);
        self.search_plain(&PlacementRequest { addr, ..*request })
    }

    /// Searches without regard to huge pages; a fixed address is returned as it is.
    fn search_plain(&self, request: &PlacementRequest) -> Result<u64, Errno> {
        if request.has(MAP_FIXED) {
            // One of the last 4095 addresses looks like an error to Linux (`IS_ERR_VALUE`), which
            // then returns it as one.
            return match request.addr.wrapping_neg() {
                errno @ 1..4096 => Err(Errno(errno as i32)),
                _ => Ok(request.addr),
            };
        }
        let guard = self.policy.guard();
        let info = UnmappedAreaInfo::new(request, guard, &self.layout);
        if guard == 0 {
            return self.search(request, &info);
        }
        let len = guard
            .checked_mul(2)
            .and_then(|guards| guards.checked_add(request.len))
            .ok_or(Errno::ENOMEM)?;
        let hint = self.layout.page_down(request.addr);
        let top = if request.has(MAP_32BIT) { 2 * GIB } else { self.layout.task_size() };
        if hint.checked_sub(guard).is_some_and(|low| self.takes_hint(low, len, top)) {
            return Ok(hint);
        }
        let guarded = PlacementRequest { addr: 0, ..*request };
        Ok(self.search(&guarded, &UnmappedAreaInfo { len, ..info })? + guard)
    }

    /// Searches as Linux does, without the guards of [`Policy`](super::Policy)
    /// (`arch_get_unmapped_area_topdown`).
    fn search(&self, request: &PlacementRequest, info: &UnmappedAreaInfo) -> Result<u64, Errno> {
        if self.layout.direction() == Direction::TopDown && !request.has(MAP_32BIT) {
            let hint = self.layout.page_down(request.addr);
            if request.addr != 0 && self.takes_hint(hint, request.len, self.layout.task_size()) {
                return Ok(hint);
            }
            let low = if request.has(MAP_ABOVE4G) { 4 * GIB } else { 0 };
            if let Some(addr) = self.highest(low, self.layout.base(), info) {
                return Ok(addr);
            }
        }
        self.search_bottom_up(request, info)
    }

    /// The only search with `MAP_32BIT` and in the legacy layout, and elsewhere the last resort
    /// (`arch_get_unmapped_area`).
    fn search_bottom_up(
        &self,
        request: &PlacementRequest,
        info: &UnmappedAreaInfo,
    ) -> Result<u64, Errno> {
        let (low, high) = if request.has(MAP_32BIT) {
            (GIB, 2 * GIB)
        } else {
            (self.layout.bottom(), self.layout.task_size())
        };
        if request.addr != 0 {
            let hint = self.layout.page_up(request.addr);
            if self.takes_hint(hint, request.len, high) {
                return Ok(hint);
            }
        }
        self.lowest(low, high, info).ok_or(Errno::ENOMEM)
    }

    /// Returns `true` if `len` bytes at `hint` end at or below `top` and are free, the guard gap of
    /// the next VMA included.
    fn takes_hint(&self, hint: u64, len: u64, top: u64) -> bool {
        top.checked_sub(len).is_some_and(|last| hint <= last)
            && self
                .vma_at_or_above(self.layout.pages(hint))
                .is_none_or(|next| hint + len <= self.layout.bytes(self.guarded_start(&next)))
    }

    /// Finds the highest fit in `low..high` (`unmapped_area_topdown`).
    ///
    /// Linux goes from gap to gap: where one is long enough, but not without the guard gap of the
    /// stack above it, the search goes on below that guard gap. So it passes over the stack's
    /// neighbours, too, as far as they lie in the guard gap, even if there is room between them.
    /// Here the first gap is found that is long enough without guard gaps, and then what Linux
    /// would have passed over on its way there.
    fn highest(&self, low: u64, high: u64, info: &UnmappedAreaInfo) -> Option<u64> {
        let low = low.max(self.layout.min_addr());
        let padded = info.padded_len()?;
        let find = |high: u64| {
            let search = Search::new().top_down().window(low, high.checked_sub(1)?);
            self.map.find_gap(padded, &search).ok()
        };
        let at = |end: u64| {
            let start = end - info.len;
            start - (start.wrapping_sub(info.align_offset) & info.align_mask)
        };
        let (mut below, mut limit, mut reach) = (high, high, REACH);
        loop {
            let end = find(below)? + padded;
            reach = reach.saturating_sub(PER_GAP);
            match self.limit_above(end, limit, low, padded, &mut reach) {
                Some(lower) if lower < end => limit = lower,
                _ => return Some(at(end)),
            }
            let gap = self.vma_below(self.layout.pages(end));
            let gap = gap.map_or(low, |vma| low.max(self.layout.bytes(vma.range.end)));
            if limit >= gap && limit - gap >= padded {
                return Some(at(limit));
            }
            below = gap.min(limit);
        }
    }

    /// Returns how far Linux' search from the top for `len` bytes has come down when it arrives at
    /// the gap in which it would find `end`: below `end` if it has met a stack above that gap whose
    /// guard gap reaches into it. It was at `limit` some way above.
    ///
    /// Looks at as many VMAs as there are in the reach of guard gaps. `None` if those are more than
    /// `reach`, which is reduced by their number.
    fn limit_above(
        &self,
        end: u64,
        limit: u64,
        low: u64,
        len: u64,
        reach: &mut usize,
    ) -> Option<u64> {
        let guard_gap = self.layout.guard_gap().max(self.layout.page_size().bytes());
        if end.saturating_add(guard_gap) <= self.map.lowest_guarded() {
            return Some(limit);
        }
        let guarded_start = |vma: &VmaView| self.layout.bytes(self.guarded_start(vma));
        // The bytes in the gap between two VMAs that are left to the search when it is at `limit`.
        let left = |below: &VmaView, above: &VmaView, limit: u64| {
            let start = low.max(self.layout.bytes(below.range.end));
            limit.min(self.layout.bytes(above.range.start)).saturating_sub(start)
        };
        // Up to where no guard gap reaches what the search has seen: there it is at `limit`.
        let above = PageRange::new(self.layout.pages(end), self.layout.user_space().end);
        let (mut seen, mut top) = (end, None);
        let mut last: Option<VmaView> = None;
        for vma in self.map.vmas_in(above).map(VmaView::new) {
            let start = self.layout.bytes(vma.range.start);
            let is_above = last.is_some_and(|last| self.layout.bytes(last.range.end) >= limit);
            if start >= seen.saturating_add(guard_gap) || is_above {
                break;
            }
            *reach = reach.checked_sub(1)?;
            if let Some(below) = last
                && vma.has_any(STACKS)
                && guarded_start(&vma) < seen
                && left(&below, &vma, limit) >= len
            {
                seen = start.min(limit);
                top = Some(vma.range.start);
            }
            last = Some(vma);
        }
        // And down again, as the search goes.
        let Some(top) = top else { return Some(limit) };
        let (mut limit, mut last) = (limit, None);
        let passed = PageRange::new(self.layout.pages(end), top + 1);
        for vma in self.map.vmas_in(passed).rev().map(VmaView::new) {
            if let Some(above) = last
                && left(&vma, &above, limit) >= len
                && above.has_any(STACKS)
            {
                limit = limit.min(guarded_start(&above));
            }
            last = Some(vma);
        }
        Some(limit)
    }

    /// Finds the lowest fit in `low..high` (`unmapped_area`).
    fn lowest(&self, low: u64, high: u64, info: &UnmappedAreaInfo) -> Option<u64> {
        let mut low = low.max(self.layout.min_addr());
        let padded = info.padded_len()?;
        let find = |len, low| {
            let search = Search::new().window(low, high.checked_sub(1)?);
            self.map.find_gap(len, &search).ok()
        };
        let at = |found: u64| found + (info.align_offset.wrapping_sub(found) & info.align_mask);
        for _ in 0..ALIGNED {
            let found = find(padded, low)?;
            let start = at(found);
            // Linux adds what the alignment costs in the worst case to what it has cost.
            match self.stack_above(found + padded) {
                Some((guard, end)) if guard < start + padded - 1 => low = end,
                _ => return Some(start),
            }
        }
        find(padded.checked_add(info.align_mask)?, low).map(at)
    }

    /// If the next VMA at or above `addr` is a stack, returns where its guard gap begins and where
    /// the VMA ends.
    fn stack_above(&self, addr: u64) -> Option<(u64, u64)> {
        let next =
            self.vma_at_or_above(self.layout.pages(addr)).filter(|next| next.has_any(STACKS))?;
        Some((self.layout.bytes(self.guarded_start(&next)), self.layout.bytes(next.range.end)))
    }

    /// Returns the pages that [`Policy`](super::Policy) wants free around a mapping.
    pub(super) fn guard_pages(&self) -> u64 {
        self.layout.pages(self.policy.guard())
    }
}

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;
