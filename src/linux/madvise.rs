//! madvise(2)

use super::PageRange;
use super::abi::int;
use super::file::{File, Restrictions};
use super::kernel::Kernel;
use super::layout::Layout;
use super::mm::{Call, Mm, MmAlloc};
use super::page_op::PageOp;
use super::vm_flags::VmFlags;
use super::vma::StickyFlags;
use super::vma_view::VmaView;
use super::walk::{Gaps, Walk};
use crate::{AddrSpace, Backing, Errno, RawLock};

/// The advice that Linux knows, by its number in `asm/mman-common.h`. `MADV_HWPOISON` and
/// `MADV_SOFT_OFFLINE` are for testing hardware errors, and are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Madvise {
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

const ALL: [Madvise; 25] = {
    use Madvise::{
        Cold, Collapse, DoDump, DoFork, DontDump, DontFork, DontNeed, DontNeedLocked, Free,
        GuardInstall, GuardRemove, HugePage, KeepOnFork, Mergeable, NoHugePage, Normal, PageOut,
        PopulateRead, PopulateWrite, Random, Remove, Sequential, Unmergeable, WillNeed, WipeOnFork,
    };
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

/// Memory whose pages advice does not take away.
const LOCKED_OR_PFN: VmFlags = VmFlags::LOCKED.union(VmFlags::PFN_MAP);
/// Memory whose pages are not reclaimed early (`can_madv_lru_vma`).
const UNRECLAIMABLE: VmFlags = LOCKED_OR_PFN.union(VmFlags::HUGE_TLB);
/// Memory whose pages are not merged (`vma_ksm_compatible`).
const UNMERGEABLE: VmFlags = VmFlags::SHARED
    .union(VmFlags::MAY_SHARE)
    .union(VmFlags::SPECIAL)
    .union(VmFlags::HUGE_TLB)
    .union(VmFlags::DROPPABLE);
/// Memory that has no guards.
const UNGUARDABLE: VmFlags = VmFlags::SPECIAL.union(VmFlags::HUGE_TLB);

/// The effect of a piece of advice on one VMA.
enum Effect {
    /// Gives it these flags.
    Flags(VmFlags),
    /// Has the kernel work on its pages.
    Pages(PageOp),
    /// Does nothing.
    Nothing,
}

impl Madvise {
    /// Returns the advice with this number.
    ///
    /// # Errors
    ///
    /// `EINVAL`: there is none.
    pub(super) fn from_number(number: u64) -> Result<Self, Errno> {
        let number = int(number);
        ALL.into_iter().find(|&advice| advice as u64 == number).ok_or(Errno::EINVAL)
    }

    /// Returns the answer of the advice to gaps.
    pub(super) fn gaps(self) -> Gaps {
        match self {
            Self::PopulateRead | Self::PopulateWrite => Gaps::Refuse,
            _ => Gaps::Report,
        }
    }

    /// Returns `true` if contents are thrown away, now or at a fork, so that a seal forbids it
    /// (`is_discard`).
    fn discards(self) -> bool {
        use Madvise::{DontFork, DontNeed, DontNeedLocked, Free, GuardInstall, Remove, WipeOnFork};
        matches!(
            self,
            DontNeed | Free | Remove | DontFork | WipeOnFork | DontNeedLocked | GuardInstall
        )
    }

    /// Returns what the advice does to `vma` (`madvise_vma_behavior`).
    ///
    /// # Errors
    ///
    /// `EINVAL`: it does not fit the VMA. `EACCES`: `MADV_REMOVE` without shared write access.
    fn effect(self, vma: &VmaView, layout: &Layout) -> Result<Effect, Errno> {
        let old = vma.flags;
        let allow = |allowed: bool, effect| if allowed { Ok(effect) } else { Err(Errno::EINVAL) };
        let without = |flags| !old.intersects(flags);
        Ok(match self {
            Self::Normal => Effect::Flags(old - VmFlags::RAND_READ - VmFlags::SEQ_READ),
            Self::Random => Effect::Flags((old - VmFlags::SEQ_READ) | VmFlags::RAND_READ),
            Self::Sequential => Effect::Flags((old - VmFlags::RAND_READ) | VmFlags::SEQ_READ),
            Self::WillNeed => Effect::Pages(PageOp::WillNeed),
            Self::DontNeed => allow(without(LOCKED_OR_PFN), Effect::Pages(PageOp::DontNeed))?,
            Self::DontNeedLocked => {
                allow(without(VmFlags::PFN_MAP), Effect::Pages(PageOp::DontNeed))?
            }
            Self::Free => {
                allow(without(LOCKED_OR_PFN) && vma.is_anonymous(), Effect::Pages(PageOp::Free))?
            }
            Self::Remove => {
                allow(without(VmFlags::LOCKED) && vma.is_file(), Effect::Nothing)?;
                if !old.contains(VmFlags::SHARED.union(VmFlags::MAY_WRITE)) {
                    return Err(Errno::EACCES);
                }
                Effect::Pages(PageOp::Remove)
            }
            Self::DontFork => Effect::Flags(old | VmFlags::DONT_COPY),
            Self::DoFork => allow(without(VmFlags::IO), Effect::Flags(old - VmFlags::DONT_COPY))?,
            Self::Mergeable => {
                if without(UNMERGEABLE) {
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
                let allowed = !vma.is_file() && without(VmFlags::SHARED);
                allow(allowed, Effect::Flags(old | VmFlags::WIPE_ON_FORK))?
            }
            Self::KeepOnFork => {
                allow(without(VmFlags::DROPPABLE), Effect::Flags(old - VmFlags::WIPE_ON_FORK))?
            }
            Self::Cold => allow(without(UNRECLAIMABLE), Effect::Pages(PageOp::Cold))?,
            Self::PageOut => allow(without(UNRECLAIMABLE), Effect::Pages(PageOp::PageOut))?,
            Self::PopulateRead => populate(vma, VmFlags::READ, PageOp::PopulateRead)?,
            Self::PopulateWrite => populate(vma, VmFlags::WRITE, PageOp::PopulateWrite)?,
            Self::Collapse => allow(may_collapse(vma, layout), Effect::Pages(PageOp::Collapse))?,
            Self::GuardInstall => {
                let allowed = without(UNGUARDABLE.union(VmFlags::LOCKED));
                allow(allowed, Effect::Pages(PageOp::GuardInstall))?
            }
            Self::GuardRemove => allow(without(UNGUARDABLE), Effect::Pages(PageOp::GuardRemove))?,
        })
    }
}

/// Returns `true` if `vma` is large enough for huge pages, and may have pages of which
/// `MADV_COLLAPSE` can make them (`thp_vma_allowable_order`). Only the kernel knows whether an
/// object has any.
fn may_collapse(vma: &VmaView, layout: &Layout) -> bool {
    let huge = layout.huge();
    let within = huge.saturating_sub(1);
    let (start, end) = (layout.bytes(vma.range.start), layout.bytes(vma.range.end));
    let last = end.checked_sub(huge).map(|addr| addr & !within);
    let fits = huge != 0 && last.is_some_and(|last| last >= start);
    let unfit = VmFlags::NO_HUGE_PAGE | VmFlags::SPECIAL | VmFlags::HUGE_TLB;
    let suitable = match vma.attrs.backing() {
        Backing::Anonymous => vma.has_anon_vma(),
        Backing::Object { offset, .. } => start.wrapping_sub(offset) & within == 0,
    };
    fits && suitable && !vma.has_any(unfit)
}

/// Returns the effect of `MADV_POPULATE_*`, which Linux treats like accesses
/// (`faultin_page_range`).
fn populate(vma: &VmaView, needed: VmFlags, op: PageOp) -> Result<Effect, Errno> {
    let unfit =
        vma.has_any(VmFlags::IO | VmFlags::PFN_MAP) || vma.forbids(Restrictions::NO_POPULATE);
    if unfit || !vma.has(needed) {
        return Err(Errno::EINVAL);
    }
    Ok(Effect::Pages(op))
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Advises on a range: madvise(2). Returns 0.
    ///
    /// Advice that lasts changes the flags of VMAs; advice to do something goes to
    /// [`Kernel::page_op`], VMA by VMA.
    ///
    /// It goes up from VMA to VMA: what comes before an error has been advised. Gaps are passed
    /// over and reported at the end, except by `MADV_POPULATE_*`, which stops there.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: unknown advice, an unaligned address, a range that wraps, or advice that does
    ///   not fit the VMA.
    /// - `ENOMEM`: a gap.
    /// - `EACCES`: `MADV_REMOVE` without shared write access.
    /// - `EPERM`: sealed.
    /// - `EAGAIN`: too many VMAs, no node.
    /// - Those of the kernel.
    ///
    /// ```
    /// const MADV_DONTNEED: u64 = 4;
    /// const MADV_DONTDUMP: u64 = 16;
    /// # use kvma::linux::{Layout, Mm, Mmap, NoFile, NoKernel};
    /// # use kvma::{AddrSpace, Errno, FixedPool, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<_>, 16>::new();
    /// # let space = AddrSpace::new(Mm::<NoFile, _>::new(Layout::x86_64(8 << 20), &nodes)?);
    /// # let memory = Mmap { addr: 0, len: 0x3000, prot: 3, flags: 0x22, offset: 0, file: None };
    /// # let at = space.mmap(memory, &mut NoKernel)?;
    /// // `space` is an `AddrSpace<Mm>`, `at` the address of three pages.
    /// space.madvise(at, 0x1000, MADV_DONTDUMP, &mut NoKernel)?; // a flag of its own
    /// assert_eq!(space.inspect(|mm| mm.map_count()), 2);
    /// // The pages are the kernel's to drop: `Kernel::page_op`.
    /// space.madvise(at, 0x3000, MADV_DONTNEED, &mut NoKernel)?;
    /// assert_eq!(space.madvise(at, 0x1000, 12345, &mut NoKernel), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn madvise<K: Kernel<F> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        advice: u64,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<u64, Errno> {
        let advice = Madvise::from_number(advice)?;
        let range = self.layout.checked_range(addr, len)?;
        self.for_each_vma(range, advice.gaps(), call, |mm, vma, part, call| {
            mm.advise_vma(advice, vma, part, call)
        })?;
        Ok(0)
    }

    pub(super) fn advise_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        advice: Madvise,
        vma: &VmaView,
        part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        // A seal protects what the program itself could not overwrite (`can_madvise_modify`).
        let protected = vma.has(VmFlags::SEALED) && vma.is_anonymous() && !vma.has(VmFlags::WRITE);
        if protected && advice.discards() {
            return Err(Errno::EPERM);
        }
        let effect = advice.effect(vma, &self.layout)?;
        if advice == Madvise::Collapse && !self.has_huge_boundary(part) {
            return Err(Errno::EINVAL);
        }
        match effect {
            Effect::Nothing => Ok(()),
            Effect::Flags(flags) => {
                self.set_flags(vma, part, flags, call).map_err(enomem_to_eagain)
            }
            Effect::Pages(op) => self.advise_pages(op, vma, part, call),
        }
    }

    /// Has the kernel do `op` to the pages of `part`, and notes what a fork or a collapse must know
    /// of it.
    fn advise_pages<K: Kernel<F> + ?Sized>(
        &mut self,
        op: PageOp,
        vma: &VmaView,
        mut part: PageRange,
        call: &mut Call<'_, F, A, K>,
    ) -> Result<(), Errno> {
        if let (PageOp::DontNeed, Some(page)) = (op, vma.huge_page()) {
            // Who does not know of huge pages shall not lose more than asked for
            // (`madvise_dontneed_free_valid_vma`).
            let huge = self.layout.pages(page);
            if !part.start.is_multiple_of(huge) {
                return Err(Errno::EINVAL);
            }
            part.end &= !(huge - 1);
            if part.is_empty() {
                return Ok(());
            }
        }
        match op {
            // Guards are entries of the VMA's page tables, which a fork must copy.
            PageOp::GuardInstall => {
                self.prepare_anon_vma(part.start);
                self.add_sticky(part.start, StickyFlags::MAYBE_GUARD);
            }
            PageOp::PopulateWrite if !vma.has(VmFlags::SHARED) => {
                self.prepare_anon_vma(part.start);
            }
            _ => {}
        }
        self.page_op(op, part, call)
    }

    /// Returns `true` if a huge page begins or ends in `part`. If none does, Linux counts down from
    /// the one after it to the one before it, and finds fewer than it expects
    /// (`madvise_collapse`).
    fn has_huge_boundary(&self, part: PageRange) -> bool {
        let within = self.layout.pages(self.layout.huge()).saturating_sub(1);
        (part.start + within) & !within <= part.end & !within
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Advises on a range: madvise(2), as [`Mm::madvise`], in batches of at most
    /// [`MAX_VMAS_PER_LOCK_HOLD`](crate::addr_space::MAX_VMAS_PER_LOCK_HOLD) VMAs if there are
    /// more. Returns 0.
    ///
    /// # Errors
    ///
    /// Those of [`Mm::madvise`].
    pub fn madvise<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        advice: u64,
        kernel: &mut K,
    ) -> Result<u64, Errno> {
        let advice = Madvise::from_number(advice)?;
        self.walk_in_batches(
            addr,
            kernel,
            |mm, _| Ok(Walk::new(mm.layout.checked_range(addr, len)?, advice.gaps())),
            |mm, vma, part, call| mm.advise_vma(advice, vma, part, call),
        )
    }
}

/// Turns `ENOMEM` of a change of flags into `EAGAIN`: to these calls, too many VMAs or too little
/// memory is a passing state.
pub(super) fn enomem_to_eagain(errno: Errno) -> Errno {
    if errno == Errno::ENOMEM { Errno::EAGAIN } else { errno }
}
