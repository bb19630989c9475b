//! Walks over the VMAs of a range, at once or in batches.

use super::PageRange;
use super::file::File;
use super::kernel::Kernel;
use super::mm::{Call, Mm, MmAlloc};
use super::vma_view::VmaView;
use crate::addr_space::{MAX_VMAS_PER_LOCK_HOLD, NODES_PER_OPERATION, Progress};
use crate::{AddrSpace, Errno, RawLock};

/// The answer of a walk over a range to a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gaps {
    /// Stops with `ENOMEM`. What lies above is left alone.
    Refuse,
    /// Goes on, and answers `ENOMEM` at the end.
    Report,
    /// Goes on.
    Ignore,
}

/// The answer of a step of a walk.
type Step = Result<(), Errno>;

/// A walk that may pause.
pub(super) struct Walk {
    rest: PageRange,
    gaps: Gaps,
    answer: Result<(), Errno>,
}

impl Walk {
    /// Returns a walk over a range that has not begun.
    pub(super) fn new(range: PageRange, gaps: Gaps) -> Self {
        Self { rest: range, gaps, answer: Ok(()) }
    }

    /// Returns `true` if no page is left to walk over.
    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}

impl<F: File, A: MmAlloc<F>> Mm<F, A> {
    /// Calls `step` for each VMA in `range` in ascending order, with the part that lies in the
    /// range, up to the first error.
    ///
    /// Each VMA is looked up when its turn comes, so `step` may split and merge, but must not unmap
    /// or map ahead. O(log n) a VMA.
    ///
    /// # Errors
    ///
    /// Those of `step`, and `ENOMEM` for gaps, as `gaps` says.
    #[inline]
    pub(super) fn for_each_vma<K: Kernel<F> + ?Sized>(
        &mut self,
        range: PageRange,
        gaps: Gaps,
        call: &mut Call<'_, F, A, K>,
        step: impl FnMut(&mut Self, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<(), Errno> {
        self.walk_to_end(Walk::new(range, gaps), call, step)
    }

    /// Makes a whole walk, as [`for_each_vma`](Self::for_each_vma) does.
    #[inline]
    pub(super) fn walk_to_end<K: Kernel<F> + ?Sized>(
        &mut self,
        mut walk: Walk,
        call: &mut Call<'_, F, A, K>,
        step: impl FnMut(&mut Self, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<(), Errno> {
        self.walk_while(&mut walk, || true, call, step).map(drop)
    }

    /// Goes on with a walk, for at most so many VMAs.
    ///
    /// # Errors
    ///
    /// Those of [`for_each_vma`](Self::for_each_vma). The walk must not be gone on with.
    pub(super) fn walk<K: Kernel<F> + ?Sized>(
        &mut self,
        walk: &mut Walk,
        most: usize,
        call: &mut Call<'_, F, A, K>,
        step: impl FnMut(&mut Self, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<Progress, Errno> {
        let mut turns = 0..most;
        self.walk_while(walk, || turns.next().is_some(), call, step)
    }

    /// Goes on with a walk, for at most `turns` VMAs, which are counted down.
    ///
    /// # Errors
    ///
    /// Those of [`walk`](Self::walk).
    pub(super) fn walk_for<K: Kernel<F> + ?Sized>(
        &mut self,
        walk: &mut Walk,
        turns: &mut usize,
        call: &mut Call<'_, F, A, K>,
        step: impl FnMut(&mut Self, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<Progress, Errno> {
        let may_go_on = || {
            let is_left = *turns > 0;
            *turns = turns.saturating_sub(1);
            is_left
        };
        self.walk_while(walk, may_go_on, call, step)
    }

    /// Goes on with a walk as long as `may_go_on` before each VMA.
    #[inline(always)]
    fn walk_while<K: Kernel<F> + ?Sized>(
        &mut self,
        walk: &mut Walk,
        mut may_go_on: impl FnMut() -> bool,
        call: &mut Call<'_, F, A, K>,
        mut step: impl FnMut(&mut Self, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<Progress, Errno> {
        while !walk.rest.is_empty() {
            let next = self.first_in(walk.rest);
            if next.is_some() && !may_go_on() {
                return Ok(Progress::More);
            }
            if next.is_none_or(|vma| vma.range.start > walk.rest.start) {
                match walk.gaps {
                    Gaps::Refuse => return Err(Errno::ENOMEM),
                    Gaps::Report => walk.answer = Err(Errno::ENOMEM),
                    Gaps::Ignore => {}
                }
            }
            let Some(vma) = next else { break };
            let part = vma.range.intersect(walk.rest);
            step(self, &vma, part, call)?;
            walk.rest.start = part.end;
        }
        walk.answer.map(|()| Progress::Done)
    }
}

impl<F: File, A: MmAlloc<F>, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// Makes a call, which begins at `addr`, in batches of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs:
    /// `begin` checks what Linux checks of the whole range, and says which walk to make; `step`
    /// does the part of one VMA. Returns 0.
    ///
    /// Between two batches others may map, unmap and change what lies ahead, which then counts as
    /// if they had done it before the call.
    ///
    /// # Errors
    ///
    /// Those of `begin` and of `step`, and `ENOMEM` for gaps. What was done before stays.
    pub(super) fn walk_in_batches<K: Kernel<F> + ?Sized>(
        &self,
        addr: u64,
        kernel: &mut K,
        begin: impl Fn(&Mm<F, A>, &mut Call<'_, F, A, K>) -> Result<Walk, Errno>,
        mut step: impl FnMut(&mut Mm<F, A>, &VmaView, PageRange, &mut Call<'_, F, A, K>) -> Step,
    ) -> Result<u64, Errno> {
        self.check_reentry()?;
        let mut begun = None;
        self.run_batches(NODES_PER_OPERATION, kernel, |mm, call| {
            if begun.is_none() {
                self.aim(mm, addr);
            }
            let walk = match &mut begun {
                Some(walk) => walk,
                None => begun.insert(begin(mm, call)?),
            };
            mm.walk(walk, MAX_VMAS_PER_LOCK_HOLD, call, &mut step)
        })
        .map(|()| 0)
    }
}
