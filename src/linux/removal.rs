//! Removing what is mapped in a range: munmap, and the first step of other calls.

use super::file::File;
use super::kernel::Kernel;
use super::limits::Usage;
use super::vm_flags::VmFlags;
use super::vma::{LinuxVma, vm_flags};
use super::{Call, Mm};
use crate::range::Span;
use crate::{Errno, Error, NodeAlloc, VmaNode};

/// What removing a range will remove.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RangeTotals {
    /// Pages mapped there.
    pub(super) pages: u64,
    /// Those of them that count as committed.
    pub(super) accounted: u64,
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// The pages of a range.
    pub(super) fn span(&self, start: u64, end: u64) -> Span {
        Span::new(self.layout.pages(start), self.layout.pages(end))
    }

    /// Gets a range ready to be removed (`vms_gather_munmap_vmas`): nothing in it may be sealed,
    /// and VMAs are cut at its ends. On an error the cuts made before stay, as in Linux.
    ///
    /// O(log n), unless something is sealed somewhere: then all VMAs in the range are looked at.
    pub(super) fn cut_out<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        let Some(first) = self.first_in(start, end) else { return Ok(()) };
        if first.start < start {
            // The count may go one above its limit while a range is being removed, but not by a
            // hole in the middle.
            if end < first.end && self.is_full() {
                return Err(Errno::ENOMEM);
            }
            if first.has(VmFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            self.split(&first, start, call)?;
        }
        if self.has_seal(start, end) {
            return Err(Errno::EPERM);
        }
        match self.below(end).filter(|last| last.end > end) {
            Some(last) => self.split(&last, end, call),
            None => Ok(()),
        }
    }

    /// As [`cut_out`](Self::cut_out), and counts what is there. O(log n + VMAs).
    pub(super) fn gather<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<RangeTotals, Errno> {
        self.cut_out(start, end, call)?;
        let mut gathered = RangeTotals::default();
        for vma in self.map.overlapping(start, end.saturating_sub(start)) {
            gathered.pages += vma.pages();
            if vm_flags(&vma.attrs()).contains(VmFlags::ACCOUNT) {
                gathered.accounted += vma.pages();
            }
        }
        Ok(gathered)
    }

    /// Removes a range that was [cut out](Self::cut_out).
    pub(super) fn remove<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        self.remove_keeping(start, end, 0, call)
    }

    /// As [`remove`](Self::remove), but `kept` pages that were promised stay so, for what comes in
    /// their place.
    pub(super) fn remove_keeping<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        kept: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        if start >= end {
            return Ok(());
        }
        let usage = self.usage_without(self.span(start, end));
        self.map.unmap(start, end - start, call)?;
        self.set_usage(usage, kept, call);
        Ok(())
    }

    /// Cuts out and removes: munmap without its argument checks (`do_vmi_align_munmap`).
    pub(super) fn unmap_range<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<(), Errno> {
        self.cut_out(start, end, call)?;
        self.remove(start, end, call)
    }

    /// Removes the first `limit` VMAs of `rest`, whatever they are, and returns what is left of it.
    /// For a piece of a longer call: hooks are not asked to prepare. Fails as `VmMap::unmap_front`
    /// does, hardly ever.
    pub(super) fn remove_front<O: Kernel<F>>(
        &mut self,
        rest: Span,
        limit: usize,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Span, Error> {
        let first_batch = self.map.first_batch(rest, limit);
        let usage = self.usage_without(first_batch);
        self.map.unmap_front(first_batch, limit, call)?;
        self.set_usage(usage, 0, call);
        Ok(Span::new(first_batch.end, rest.end))
    }

    /// Removes what this call itself has mapped in `start..end`, and leaves its charge to the
    /// caller. Hooks are not asked, so that they cannot refuse. If it has merged with what follows,
    /// the node for the split is the one that the merge left over.
    pub(super) fn take_back<O: Kernel<F>>(
        &mut self,
        start: u64,
        end: u64,
        call: &mut Call<'_, F, A, O>,
    ) {
        let span = self.span(start, end);
        let usage = self.usage_without(span);
        if self.map.unmap_front(span, usize::MAX, call).is_ok() {
            self.usage = usage;
        }
    }

    /// Whether something in a range is sealed. O(1) if nothing is anywhere, else O(log n + VMAs).
    pub(super) fn has_seal(&self, start: u64, end: u64) -> bool {
        let mut vmas = self.map.overlapping(start, end.saturating_sub(start));
        self.usage.sealed() > 0 && vmas.any(|vma| vm_flags(&vma.attrs()).contains(VmFlags::SEALED))
    }

    /// What is in use but for `span`. O(log n + VMAs).
    fn usage_without(&self, span: Span) -> Usage {
        let mut usage = self.usage;
        let (start, pages) = (self.layout.bytes(span.start), self.layout.bytes(span.len()));
        for vma in self.map.overlapping(start, pages) {
            usage.remove(vm_flags(&vma.attrs()), vma.range().span().intersect(span).len());
        }
        usage
    }

    /// Notes what is left in use, and gives up the promises for what is not but for `kept` of them.
    fn set_usage<O: Kernel<F>>(&mut self, usage: Usage, kept: u64, call: &mut Call<'_, F, A, O>) {
        let gone = self.usage.committed().saturating_sub(usage.committed());
        let freed = gone.saturating_sub(kept);
        self.usage = usage;
        if freed > 0 {
            call.hooks().uncharge(freed);
        }
    }
}
