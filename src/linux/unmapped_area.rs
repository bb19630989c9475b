//! Where a mapping goes (`get_unmapped_area` and what it calls).

use super::Mm;
use super::abi::{MAP_32BIT, MAP_ABOVE4G, MAP_FIXED};
use super::file::{Alignment, File};
use super::kernel::Capabilities;
use super::layout::{Growth, Layout};
use super::vm_flags::VmFlags;
use super::vma::LinuxVma;
use crate::{Errno, NodeAlloc, Search, VmaNode};

/// What is to be placed. All in bytes.
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
}

/// What to search for (`struct vm_unmapped_area_info`).
#[derive(Clone, Copy, Debug)]
struct UnmappedAreaInfo {
    len: u64,
    /// The bits of an address that are fixed (`align_mask`), and their value (`align_offset`).
    within: u64,
    shift: u64,
}

impl UnmappedAreaInfo {
    /// With `guard` free bytes before what is aligned.
    fn of(wanted: &PlacementRequest, guard: u64, layout: &Layout) -> Self {
        let within = match wanted.alignment {
            Alignment::HugeTlb(page) => layout.page_down(page.saturating_sub(1)),
            Alignment::Page | Alignment::Huge => 0,
        };
        Self { len: wanted.len, within, shift: guard.wrapping_neg() & within }
    }

    /// Linux looks for as much as it takes in the worst case, so that a gap which fits exactly is
    /// not found.
    fn padded(&self) -> Option<u64> {
        self.len.checked_add(self.within)
    }
}

const GIB: u64 = 1 << 30;

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The address for a mapping; with `MAP_FIXED` only the checks.
    ///
    /// # Errors
    /// `ENOMEM` if there is no room, or the range leaves user space; `EINVAL` for an unaligned
    /// fixed address; `EPERM` for low addresses without privileges.
    pub(super) fn get_unmapped_area(
        &self,
        wanted: &PlacementRequest,
        caps: Capabilities,
    ) -> Result<u64, Errno> {
        if wanted.len > self.layout.task_size() {
            return Err(Errno::ENOMEM);
        }
        let addr = match wanted.alignment {
            Alignment::Huge => {
                self.place_huge(wanted).map_or_else(|| self.place_plain(wanted), Ok)?
            }
            Alignment::HugeTlb(page) => self.place_huge_pages(wanted, page)?,
            Alignment::Page => self.place_plain(wanted)?,
        };
        if addr > self.layout.task_size() - wanted.len {
            return Err(Errno::ENOMEM);
        }
        if !self.layout.is_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr < self.layout.user_min_addr() && !caps.contains(Capabilities::SYS_RAWIO) {
            return Err(Errno::EPERM);
        }
        Ok(addr)
    }

    /// UnmappedAreaInfo for one huge page more than is wanted, and in it the place where huge pages
    /// fit (`__thp_get_unmapped_area`). `None` if that is of no use or not to be had.
    fn place_huge(&self, wanted: &PlacementRequest) -> Option<u64> {
        let huge = self.layout.huge();
        if huge == 0 {
            return None;
        }
        // Linux computes this in signed 64 bits.
        let signed = |offset: u64| i64::try_from(offset).ok();
        let end = signed(wanted.offset.checked_add(wanted.len)?)?;
        let aligned = signed(wanted.offset.checked_next_multiple_of(huge)?)?;
        if end.checked_sub(aligned)? < signed(huge)? {
            return None;
        }
        let padded = wanted.len.checked_add(huge)?;
        signed(wanted.offset.checked_add(padded)?)?;
        let found = self.place_plain(&PlacementRequest { len: padded, ..*wanted }).ok()?;
        if found == wanted.addr {
            return Some(found);
        }
        let shift = wanted.offset.wrapping_sub(found) & (huge - 1);
        if shift == 0 && self.layout.growth() == Growth::TopDown {
            Some(found + huge)
        } else {
            Some(found + shift)
        }
    }

    /// Where there is room for huge pages of `page` bytes (`hugetlb_get_unmapped_area`).
    fn place_huge_pages(&self, wanted: &PlacementRequest, page: u64) -> Result<u64, Errno> {
        let within = page.checked_sub(1).ok_or(Errno::EINVAL)?;
        if wanted.map_flags & MAP_FIXED != 0 && wanted.addr & within != 0 {
            return Err(Errno::EINVAL);
        }
        // Near the top of 64 bits this is 0, and no hint.
        let addr = wanted.addr.wrapping_add(within) & !within;
        self.place_plain(&PlacementRequest { addr, ..*wanted })
    }

    fn place_plain(&self, wanted: &PlacementRequest) -> Result<u64, Errno> {
        if wanted.len > self.layout.task_size() {
            return Err(Errno::ENOMEM);
        }
        if wanted.map_flags & MAP_FIXED != 0 {
            // An address among the last 4095 looks like an error to Linux, which returns it
            // (`IS_ERR_VALUE`).
            return match wanted.addr.wrapping_neg() {
                errno @ 1..4096 => Err(Errno(errno as i32)),
                _ => Ok(wanted.addr),
            };
        }
        let guard = self.policy.guard();
        let room = UnmappedAreaInfo::of(wanted, guard, &self.layout);
        if guard == 0 {
            return self.search(wanted, &room);
        }
        let len = guard
            .checked_mul(2)
            .and_then(|guards| guards.checked_add(wanted.len))
            .ok_or(Errno::ENOMEM)?;
        let hint = self.layout.page_down(wanted.addr);
        let top = if wanted.map_flags & MAP_32BIT != 0 { 2 * GIB } else { self.layout.task_size() };
        if hint > guard && self.takes_hint(hint - guard, len, top) {
            return Ok(hint);
        }
        Ok(self.search(
            &PlacementRequest { addr: 0, len, ..*wanted },
            &UnmappedAreaInfo { len, ..room },
        )? + guard)
    }

    /// The search without the owner's guards around (`arch_get_unmapped_area_topdown`).
    fn search(&self, wanted: &PlacementRequest, room: &UnmappedAreaInfo) -> Result<u64, Errno> {
        if self.layout.growth() == Growth::TopDown && wanted.map_flags & MAP_32BIT == 0 {
            let hint = self.layout.page_down(wanted.addr);
            if wanted.addr != 0 && self.takes_hint(hint, wanted.len, self.layout.task_size()) {
                return Ok(hint);
            }
            let low = if wanted.map_flags & MAP_ABOVE4G != 0 { 4 * GIB } else { 0 };
            if let Some(addr) = self.highest(low, self.layout.base(), room) {
                return Ok(addr);
            }
        }
        self.place_bottom_up(wanted, room)
    }

    /// `arch_get_unmapped_area`: the whole search for `MAP_32BIT` and the legacy layout, else the
    /// last resort.
    fn place_bottom_up(
        &self,
        wanted: &PlacementRequest,
        room: &UnmappedAreaInfo,
    ) -> Result<u64, Errno> {
        let (low, high) = if wanted.map_flags & MAP_32BIT != 0 {
            (GIB, 2 * GIB)
        } else {
            (self.layout.bottom(), self.layout.task_size())
        };
        if wanted.len > high {
            return Err(Errno::ENOMEM);
        }
        if wanted.addr != 0 {
            let hint = self.layout.page_up(wanted.addr);
            if self.takes_hint(hint, wanted.len, high) {
                return Ok(hint);
            }
        }
        self.lowest(low, high, room).ok_or(Errno::ENOMEM)
    }

    /// Whether `len` bytes at `hint` end below `top` and are free, the next VMA's guard gap
    /// included.
    fn takes_hint(&self, hint: u64, len: u64, top: u64) -> bool {
        top.checked_sub(len).is_some_and(|last| hint <= last)
            && self.at_or_above(hint).is_none_or(|next| hint + len <= self.guarded_start(&next))
    }

    /// The highest room in `low..high` (`unmapped_area_topdown`).
    fn highest(&self, low: u64, mut high: u64, room: &UnmappedAreaInfo) -> Option<u64> {
        let low = low.max(self.layout.min_addr());
        let padded = room.padded()?;
        loop {
            let search = Search::new().top_down().window(low, high.checked_sub(1)?);
            let found = self.map.find_gap(padded, &search).ok()?;
            let end = found + padded;
            let start = end - room.len;
            let start = start - (start.wrapping_sub(room.shift) & room.within);
            match self.guard_above(end) {
                // A stack's gap reaches into the room: go on below it. That skips smaller rooms
                // inside the gap.
                Some(guard) if guard < end => high = guard,
                _ => return Some(start),
            }
        }
    }

    /// The lowest room in `low..high` (`unmapped_area`).
    fn lowest(&self, low: u64, high: u64, room: &UnmappedAreaInfo) -> Option<u64> {
        let mut low = low.max(self.layout.min_addr());
        let padded = room.padded()?;
        loop {
            let search = Search::new().window(low, high.checked_sub(1)?);
            let found = self.map.find_gap(padded, &search).ok()?;
            let start = found + (room.shift.wrapping_sub(found) & room.within);
            match self.at_or_above(found + padded).filter(|next| next.has_any(STACKS)) {
                Some(next) if self.guarded_start(&next) < start + padded - 1 => low = next.end,
                _ => return Some(start),
            }
        }
    }

    /// Where the guard gap begins of the VMA at or above `addr`, if it is a stack.
    fn guard_above(&self, addr: u64) -> Option<u64> {
        self.at_or_above(addr)
            .filter(|next| next.has_any(STACKS))
            .map(|next| self.guarded_start(&next))
    }
}

/// VMAs that keep a gap below them (`VM_STARTGAP_FLAGS`).
const STACKS: VmFlags = VmFlags::GROWS_DOWN.union(VmFlags::SHADOW_STACK);
