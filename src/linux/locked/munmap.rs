//! munmap(2)

use super::super::file::File;
use super::super::kernel::Kernel;
use super::super::vma::LinuxVma;
use super::super::{Call, Mm};
use super::NODES;
use crate::addr_space::{AddrSpace, MAX_VMAS_PER_LOCK_HOLD};
use crate::range::Span;
use crate::sync::RawLock;
use crate::{Errno, NodeAlloc, VmaNode};

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone, L: RawLock> AddrSpace<Mm<F, A>, L> {
    /// munmap(2): [`Mm::munmap`], in pieces of at most [`MAX_VMAS_PER_LOCK_HOLD`] VMAs if there are
    /// more, each with a flush of its own. Returns 0.
    ///
    /// Seals, limits and cuts are checked for the whole range first, and `prepare` is called for
    /// the VMAs at its two ends (for all VMAs if there is only one piece). While nothing in the
    /// program is sealed, the first hold costs no more than any other; else it looks at every VMA
    /// in the range.
    ///
    /// # Errors
    /// As [`Mm::munmap`]. Of several pieces, each but the first answers for what other threads have
    /// done to the rest of the range meanwhile: `EPERM` if they have sealed something in it,
    /// `EINVAL` if special memory or a huge page of theirs lies across its end, `ENOMEM` if there
    /// are too many VMAs for a hole in one of theirs. The pieces before it are gone then; it and
    /// those above stay.
    pub fn munmap<O: Kernel<F>>(&self, addr: u64, len: u64, owner: &mut O) -> Result<u64, Errno> {
        let mut call = self.owed(owner);
        let _ = call.reserve(NODES);
        let begun = self.begin().begin_munmap(addr, len, MAX_VMAS_PER_LOCK_HOLD, &mut call);
        let mut rest = begun?;
        while !rest.is_empty() {
            // With nodes of this piece, should the next one find something to cut.
            call.settle(NODES);
            let done = self.begin().munmap_front(rest, MAX_VMAS_PER_LOCK_HOLD, &mut call);
            rest = done?;
        }
        Ok(0)
    }
}

impl<F: File, A: NodeAlloc<VmaNode<LinuxVma<F>>> + Clone> Mm<F, A> {
    /// All that may fail, and the first piece. Returns what is left.
    fn begin_munmap<O: Kernel<F>>(
        &mut self,
        addr: u64,
        len: u64,
        limit: usize,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Span, Errno> {
        let (start, end) = self.layout.user_range(addr, len)?;
        let span = self.span(start, end);
        if self.map.first_batch(span, limit) == span {
            self.munmap(addr, len, call)?;
            return Ok(Span::new(span.end, span.end));
        }
        self.cut_out(start, end, call)?;
        self.map.prepare_ends(span, call)?;
        Ok(self.remove_front(span, limit, call)?)
    }

    /// The next piece.
    fn munmap_front<O: Kernel<F>>(
        &mut self,
        rest: Span,
        limit: usize,
        call: &mut Call<'_, F, A, O>,
    ) -> Result<Span, Errno> {
        self.check_removal(self.map.first_batch(rest, limit))?;
        Ok(self.remove_front(rest, limit, call)?)
    }

    /// Whether a range may be removed that others may have changed since it was cut out.
    fn check_removal(&self, span: Span) -> Result<(), Errno> {
        let (start, end) = (self.layout.bytes(span.start), self.layout.bytes(span.end));
        if self.has_seal(start, end) {
            return Err(Errno::EPERM);
        }
        let across_start = self.first_in(start, end).filter(|vma| vma.start < start);
        let across_end = self.below(end).filter(|vma| vma.end > end);
        if across_start.is_some_and(|vma| !vma.may_split(start))
            || across_end.is_some_and(|vma| !vma.may_split(end))
        {
            return Err(Errno::EINVAL);
        }
        if across_start.is_some_and(|vma| vma.end > end) && self.is_full() {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}
