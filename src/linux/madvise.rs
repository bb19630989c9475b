//! madvise(2)

use super::abi::int;
use super::file::File;
use super::kernel::{Kernel, PageOp};
use super::layout::Layout;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, Marks};
use super::vma_view::VmaView;
use super::{Call, Mm};
use crate::{Backing, Errno, NodeAlloc, VmaNode};

/// The advice that Linux knows, by its number in `asm/mman-common.h`. `MADV_HWPOISON` and
/// `MADV_SOFT_OFFLINE` are for testing hardware errors, and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Advice {
    Normal = 0,
    Random = 1,
    Sequential = 2,
    WillNeed = 3,
    DontNeed = 4,
    Free = 8,
    Remove = 9,
    DontFork = 10,
    DoFork = 11,
    Mergeable = 12,
    Unmergeable = 13,
    HugePage = 14,
    NoHugePage = 15,
    DontDump = 16,
    DoDump = 17,
    WipeOnFork = 18,
    KeepOnFork = 19,
    Cold = 20,
    PageOut = 21,
    PopulateRead = 22,
    PopulateWrite = 23,
    DontNeedLocked = 24,
    Collapse = 25,
    GuardInstall = 102,
    GuardRemove = 103,
}

const ADVICE: [Advice; 25] = {
    use Advice::*;
    [
        Normal,
        Random,
        Sequential,
        WillNeed,
        DontNeed,
        Free,
        Remove,
        DontFork,
        DoFork,
        Mergeable,
        Unmergeable,
        HugePage,
        NoHugePage,
        DontDump,
        DoDump,
        WipeOnFork,
        KeepOnFork,
        Cold,
        PageOut,
        PopulateRead,
        PopulateWrite,
        DontNeedLocked,
        Collapse,
        GuardInstall,
        GuardRemove,
    ]
};

/// What a piece of advice comes to for one VMA.
enum Effect {
    /// Other flags.
    Flags(VmFlags),
    /// Work for the owner.
    Act(PageOp),
    /// Nothing.
    Nothing,
}

impl Advice {
    fn from_number(number: u64) -> Result<Self, Errno> {
        let number = int(number);
        ADVICE.into_iter().find(|&advice| advice as u64 == number).ok_or(Errno::EINVAL)
    }

    /// Throws contents away, now or at a fork, so that a seal forbids it (`is_discard`).
    fn discards(self) -> bool {
        use Advice::*;
        matches!(
            self,
            DontNeed | Free | Remove | DontFork | WipeOnFork | DontNeedLocked | GuardInstall
        )
    }

    /// `madvise_vma_behavior`
    fn effect(self, region: &VmaView, layout: &Layout) -> Result<Effect, Errno> {
        let old = region.flags;
        let allow = |allowed: bool, effect| if allowed { Ok(effect) } else { Err(Errno::EINVAL) };
        let without = |flags| !old.intersects(flags);
        let lock_or_pfn = VmFlags::LOCKED | VmFlags::PFN_MAP;
        Ok(match self {
            Self::Normal => Effect::Flags(old - VmFlags::RAND_READ - VmFlags::SEQ_READ),
            Self::Random => Effect::Flags((old - VmFlags::SEQ_READ) | VmFlags::RAND_READ),
            Self::Sequential => Effect::Flags((old - VmFlags::RAND_READ) | VmFlags::SEQ_READ),
            Self::WillNeed => Effect::Act(PageOp::WillNeed),
            Self::DontNeed => allow(without(lock_or_pfn), Effect::Act(PageOp::DontNeed))?,
            Self::DontNeedLocked => {
                allow(without(VmFlags::PFN_MAP), Effect::Act(PageOp::DontNeed))?
            }
            Self::Free => {
                allow(without(lock_or_pfn) && region.is_anonymous(), Effect::Act(PageOp::Free))?
            }
            Self::Remove => {
                allow(without(VmFlags::LOCKED) && region.is_file(), Effect::Nothing)?;
                if !old.contains(VmFlags::SHARED | VmFlags::MAY_WRITE) {
                    return Err(Errno::EACCES);
                }
                Effect::Act(PageOp::Remove)
            }
            Self::DontFork => Effect::Flags(old | VmFlags::DONT_COPY),
            Self::DoFork => allow(without(VmFlags::IO), Effect::Flags(old - VmFlags::DONT_COPY))?,
            Self::Mergeable => {
                let unfit = VmFlags::SHARED | VmFlags::MAY_SHARE | VmFlags::SPECIAL;
                if without(unfit | VmFlags::HUGE_TLB | VmFlags::DROPPABLE) {
                    Effect::Flags(old | VmFlags::MERGEABLE)
                } else {
                    Effect::Nothing
                }
            }
            Self::Unmergeable => Effect::Flags(old - VmFlags::MERGEABLE),
            Self::HugePage => Effect::Flags((old - VmFlags::NO_HUGE_PAGE) | VmFlags::HUGE_PAGE),
            Self::NoHugePage => Effect::Flags((old - VmFlags::HUGE_PAGE) | VmFlags::NO_HUGE_PAGE),
            Self::DontDump => Effect::Flags(old | VmFlags::DONT_DUMP),
            Self::DoDump => {
                let special = !old.contains(VmFlags::HUGE_TLB) && old.intersects(VmFlags::SPECIAL);
                let allowed = !special && without(VmFlags::DROPPABLE);
                allow(allowed, Effect::Flags(old - VmFlags::DONT_DUMP))?
            }
            Self::WipeOnFork => {
                let allowed = !region.is_file() && without(VmFlags::SHARED);
                allow(allowed, Effect::Flags(old | VmFlags::WIPE_ON_FORK))?
            }
            Self::KeepOnFork => {
                allow(without(VmFlags::DROPPABLE), Effect::Flags(old - VmFlags::WIPE_ON_FORK))?
            }
            Self::Cold => {
                allow(without(lock_or_pfn | VmFlags::HUGE_TLB), Effect::Act(PageOp::Cold))?
            }
            Self::PageOut => {
                allow(without(lock_or_pfn | VmFlags::HUGE_TLB), Effect::Act(PageOp::PageOut))?
            }
            Self::PopulateRead => populate(old, VmFlags::READ, PageOp::PopulateRead)?,
            Self::PopulateWrite => populate(old, VmFlags::WRITE, PageOp::PopulateWrite)?,
            Self::Collapse => allow(may_collapse(region, layout), Effect::Act(PageOp::Collapse))?,
            Self::GuardInstall => {
                let unfit = VmFlags::SPECIAL | VmFlags::HUGE_TLB | VmFlags::LOCKED;
                allow(without(unfit), Effect::Act(PageOp::GuardInstall))?
            }
            Self::GuardRemove => {
                let unfit = VmFlags::SPECIAL | VmFlags::HUGE_TLB;
                allow(without(unfit), Effect::Act(PageOp::GuardRemove))?
            }
        })
    }
}

/// Whether `region` has room for huge pages and can have pages for `MADV_COLLAPSE` to make them of
/// (`thp_vma_allowable_order`). Whether an object has any its owner knows.
fn may_collapse(region: &VmaView, layout: &Layout) -> bool {
    let huge = layout.huge();
    let within = huge.saturating_sub(1);
    let last = region.end.checked_sub(huge).map(|addr| addr & !within);
    let fits = huge != 0 && last.is_some_and(|last| last >= region.start);
    let unfit = VmFlags::NO_HUGE_PAGE | VmFlags::SPECIAL | VmFlags::HUGE_TLB;
    let suitable = match region.attrs.backing() {
        Backing::Anonymous => region.is_touched(),
        Backing::Object { offset, .. } => {
            region.start.wrapping_sub(layout.bytes(offset)) & within == 0
        }
    };
    fits && suitable && !region.has_any(unfit)
}

/// `MADV_POPULATE_*`: Linux walks these like accesses (`faultin_page_range`).
fn populate(flags: VmFlags, needed: VmFlags, action: PageOp) -> Result<Effect, Errno> {
    if flags.intersects(VmFlags::IO | VmFlags::PFN_MAP) || !flags.contains(needed) {
        return Err(Errno::EINVAL);
    }
    Ok(Effect::Act(action))
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// madvise(2). Returns 0. Advice that lasts changes the VMAs' flags; advice to do something is
    /// handed to [`Kernel::act`], VMA by VMA.
    ///
    /// Goes up: what comes before an error has been advised. Holes are passed over and reported at
    /// the end, except by `MADV_POPULATE_*`, which stops there.
    ///
    /// # Errors
    /// `EINVAL`: unknown advice, unaligned, a wrap, does not fit the VMA. `ENOMEM`: a hole.
    /// `EACCES`: `MADV_REMOVE` without shared write access. `EPERM`: sealed. `EAGAIN`: too many
    /// VMAs, no memory. And what the owner says.
    pub fn madvise<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        advice: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<u64, Errno> {
        let advice = Advice::from_number(advice)?;
        let rounded = self.layout.page_up(len);
        if !self.layout.is_aligned(addr) || (len != 0 && rounded == 0) {
            return Err(Errno::EINVAL);
        }
        // A range that ends at 2^64 wraps to 0, which lies below its start.
        let end = addr.checked_add(rounded).ok_or(Errno::EINVAL)?;
        let stops_at_holes = matches!(advice, Advice::PopulateRead | Advice::PopulateWrite);
        let mut hole = Ok(0);
        let mut at = addr;
        while at < end {
            let region = self.first_in(at, end).ok_or(Errno::ENOMEM)?;
            if region.start > at {
                if stops_at_holes {
                    return Err(Errno::ENOMEM);
                }
                hole = Err(Errno::ENOMEM);
                at = region.start;
            }
            let to = region.end.min(end);
            self.advise_region(advice, &region, at, to, call)?;
            at = to;
        }
        hole
    }

    /// Whether a huge page ends or begins in a range. If none does, Linux counts down from the one
    /// after it to the one before it, and finds less than it thinks there are (`madvise_collapse`).
    fn has_huge_end(&self, start: u64, end: u64) -> bool {
        let within = self.layout.huge().saturating_sub(1);
        start.saturating_add(within) & !within <= end & !within
    }

    fn advise_region<O: Kernel<F>>(
        &mut self,
        advice: Advice,
        region: &VmaView,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        // A seal keeps what the program itself could not overwrite (`can_madvise_modify`).
        let kept =
            region.has(VmFlags::SEALED) && region.is_anonymous() && !region.has(VmFlags::WRITE);
        if kept && advice.discards() {
            return Err(Errno::EPERM);
        }
        if advice == Advice::Collapse && !self.has_huge_end(start, end) {
            advice.effect(region, &self.layout)?;
            return Err(Errno::EINVAL);
        }
        match advice.effect(region, &self.layout)? {
            Effect::Nothing => Ok(()),
            Effect::Flags(flags) => match self.set_flags(region, start, end, flags, call) {
                // Out of VMAs or memory is a passing state here.
                Err(Errno::ENOMEM) => Err(Errno::EAGAIN),
                result => result,
            },
            Effect::Act(action) => {
                let mut end = end;
                if let (PageOp::DontNeed, Some(page)) = (action, region.huge_page()) {
                    // Who does not know of huge pages shall not lose more than asked for
                    // (`madvise_dontneed_free_valid_vma`).
                    end &= !(page - 1);
                    if start & (page - 1) != 0 {
                        return Err(Errno::EINVAL);
                    }
                    if start == end {
                        return Ok(());
                    }
                }
                match action {
                    // Guards are entries of its page tables, which a fork must copy.
                    PageOp::GuardInstall => self.mark(start, Marks::HAS_ANON_VMA | Marks::GUARDS),
                    PageOp::PopulateWrite if !region.has(VmFlags::SHARED) => {
                        self.mark(start, Marks::HAS_ANON_VMA)
                    }
                    _ => {}
                }
                self.page_op(action, start, end, call)
            }
        }
    }
}
