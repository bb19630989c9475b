//! Long operations, a piece at a time.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, prepare_all};
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// The first_batch of `span` with its first `limit` VMAs: all of it if there are no more.
    pub(crate) fn first_batch(&self, span: Span, limit: usize) -> Span {
        let mut vmas = self.tree.entries(span).skip(limit.saturating_sub(1));
        match (vmas.next(), vmas.next()) {
            (Some(last), Some(_)) => Span::new(span.start, last.span().end.min(span.end)),
            _ => span,
        }
    }

    /// The pages that `len` bytes from `start` touch.
    pub(crate) fn pages_touched(&self, start: u64, len: u64) -> Span {
        self.touched(start, len)
    }

    /// As [`unmap`](Self::unmap) if there are at most `limit` VMAs in the range, and nothing is
    /// left to do. Else does what may fail, and cuts VMAs where the range begins and ends, so that
    /// the rest cannot: [`unmap_front`](Self::unmap_front), of which this does the first.
    ///
    /// In the latter case, only what is cut off is prepared: of the other VMAs nothing is left.
    pub(crate) fn begin_unmap<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        limit: usize,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(u64, Span), Error> {
        let span = self.span(start, len)?;
        if self.first_batch(span, limit) == span {
            return Ok((self.unmap(start, len, update)?, Span::new(span.end, span.end)));
        }
        update.check_alloc(&self.alloc)?;
        let (vmas, cost) = self.plan_removal(span)?;
        update.nodes.fill(cost)?;
        let mut ends = vmas.clone();
        let cut = [ends.next(), ends.next_back()].into_iter().flatten();
        let cut = cut.filter(|vma| vma.span() != vma.span().intersect(span));
        prepare_all(update.hooks, cut.map(|vma| Event::Unmap(self.piece(vma, span))))?;
        self.tree.cut(span.start, &mut update.nodes);
        self.tree.cut(span.end, &mut update.nodes);
        self.unmap_front(span, limit, update)
    }

    /// Lets the hooks prepare for the first and the last VMA of `span`, which have been cut out of
    /// others or may have been.
    #[cfg(feature = "linux")]
    pub(crate) fn prepare_ends<H: Hooks<V>>(
        &self,
        span: Span,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let mut vmas = self.tree.entries(span);
        let ends = [vmas.next(), vmas.next_back()].into_iter().flatten();
        prepare_all(update.hooks, ends.map(|vma| Event::Unmap(self.piece(vma, span))))
    }

    /// Unmaps the first `limit` VMAs of `span`. Gives the pages removed and what is left of the
    /// span.
    ///
    /// Cannot fail, unless another thread has put a map of other nodes in the place of this one
    /// ([`Error::ForeignNodes`]). A VMA that another thread has since mapped or joined across the
    /// beginning or the end of `span` is cut there, whatever its granularity: it has met a VMA
    /// there that was not part of it. That takes nodes, which come from the piece before. The first
    /// piece finds nothing to cut, since the lock was not released after the VMAs at the ends were
    /// cut.
    pub(crate) fn unmap_front<H: Hooks<V>>(
        &mut self,
        span: Span,
        limit: usize,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(u64, Span), Error> {
        update.check_alloc(&self.alloc)?;
        let first_batch = self.first_batch(span, limit);
        let before = self.tree.pages();
        if !self.tree.is_free(first_batch) {
            self.remove_range(first_batch, update);
        }
        Ok((before - self.tree.pages(), Span::new(first_batch.end, span.end)))
    }
}
