//! Unmapping.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Unmaps `len` bytes from `start`; holes are fine (munmap(2)). Returns the pages removed.
    ///
    /// O(log n + VMAs removed). Needs a node for each VMA that is cut, at most 2; none to remove
    /// whole VMAs. Hooks: `prepare`, `unmap` for each piece, `flush_begin` if there was any.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::SplitRefused`],
    /// [`Error::OutOfMemory`], or what `prepare` says.
    pub fn unmap<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, Error> {
        let span = self.span(start, len)?;
        self.unmap_span(span, update)
    }

    /// Unmaps everything. As [`unmap`](Self::unmap), but needs no node.
    pub fn clear<H: Hooks<V>>(&mut self, update: &mut Update<'_, V, A, H>) -> Result<u64, Error> {
        self.unmap_span(self.tree.space(), update)
    }

    fn unmap_span<H: Hooks<V>>(
        &mut self,
        span: Span,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, Error> {
        update.check_alloc(&self.alloc)?;
        let (vmas, cost) = self.plan_removal(span)?;
        update.nodes.fill(cost)?;
        prepare_all(update.hooks, vmas.clone().map(|vma| Event::Unmap(self.piece(vma, span))))?;

        let before = self.tree.pages();
        if vmas.clone().next().is_some() {
            self.remove_range(span, update);
        }
        Ok(before - self.tree.pages())
    }

    /// Takes `span`, where something is, out; tells the hooks, and starts the flush.
    pub(super) fn remove_range<H: Hooks<V>>(
        &mut self,
        span: Span,
        update: &mut Update<'_, V, A, H>,
    ) {
        update.announce(&self.tree, span);
        let before = update.gathered.len();
        self.tree.remove_range(span, &mut update.nodes, &mut update.gathered);
        if self.tell_unmapped(before, update) {
            update.begin_flush();
        }
    }

    /// Tells the hooks what was gathered after the first `before`, and whether there was anything.
    pub(super) fn tell_unmapped<H: Hooks<V>>(
        &self,
        before: usize,
        update: &mut Update<'_, V, A, H>,
    ) -> bool {
        for gone in update.gathered.iter_from(before).filter(|gone| !gone.attrs.is_reserved()) {
            let range = self.range(Span::new(gone.start, gone.end));
            update.hooks.unmap(&Piece::new(range, gone.attrs, gone.data));
        }
        update.gathered.len() > before
    }
}
