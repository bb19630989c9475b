//! Moving VMAs to another space.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::{NodeAlloc, Removed};
use crate::range::Span;
use crate::ranges::Merge;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Moves the VMAs in `len` bytes from `from` into another map, to `to`: attributes, offsets and
    /// the owner's data. Holes stay holes. The target must be free; pages must be of one size.
    ///
    /// O((VMAs + 1) log n). Needs up to 2 nodes of `update`, and of `target_update` one for each
    /// VMA, with which the VMAs live on. Hooks: `prepare` of both; then `unmap` of this map's for
    /// each piece, ascending, and `flush_begin`; then `map` of the target's for each piece. To move
    /// the pages as well, the owner keeps in `unmap` what it finds, and puts it back in `map`.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Overlap`],
    /// [`Error::SplitRefused`], [`Error::OutOfMemory`], [`Error::Busy`] (a part of the range is
    /// reserved, or page sizes differ), or what `prepare` says. Then neither map has changed.
    #[allow(clippy::too_many_arguments)]
    pub fn transfer<H: Hooks<V>, B: NodeAlloc<VmaNode<V>> + Clone, I: Hooks<V>>(
        &mut self,
        from: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
        target: &mut VmMap<V, B>,
        to: u64,
        merge: Merge,
        target_update: &mut Update<'_, V, B, I>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        target_update.check_alloc(&target.alloc)?;
        if self.page != target.page {
            return Err(Error::Busy);
        }
        let (span, goal) = (self.span(from, len)?, target.span(to, len)?);
        if !target.tree.is_free(goal) {
            return Err(Error::Overlap);
        }
        let (vmas, cost) = self.plan_removal(span)?;
        if vmas.clone().any(|vma| vma.attrs().is_reserved()) {
            return Err(Error::Busy);
        }
        update.nodes.fill(cost)?;
        target_update.nodes.fill(vmas.clone().count())?;
        let moved = |span_: Span| {
            Span::new(span_.start - span.start + goal.start, span_.end - span.start + goal.start)
        };
        let out = vmas.clone().map(|vma| Event::Unmap(self.piece(vma, span)));
        let into = vmas.map(|vma| {
            let piece = self.piece(vma, span);
            Event::Map(Piece::new(
                target.range(moved(piece.range().span())),
                piece.attrs(),
                piece.data(),
            ))
        });
        prepare_all(update.hooks, out.clone())?;
        if let Err(error) = prepare_all(target_update.hooks, into) {
            out.for_each(|event| update.hooks.cancel(&event));
            return Err(error);
        }
        if self.tree.is_free(span) {
            return Ok(());
        }

        update.announce(&self.tree, span);
        // Until the owner has put the pages there, and longer, no fault may bring in others.
        target_update.announce(&target.tree, goal);
        let mut gathered = Removed::new(self.alloc.clone());
        self.tree.remove_range(span, &mut update.nodes, &mut gathered);
        for gone in gathered.iter_from(0) {
            let range = self.range(Span::new(gone.start, gone.end));
            update.hooks.unmap(&Piece::new(range, gone.attrs, gone.data));
        }
        update.begin_flush();
        let distance = goal.start.wrapping_sub(span.start).cast_signed();
        while let Some((old, attrs, mut data)) = gathered.pop(&mut update.nodes) {
            let new = moved(old);
            data.relocate(distance);
            let placed = target.tree.place(new, attrs, data, merge, &mut target_update.nodes);
            if let Some(vma) = placed {
                let range = crate::range::VmRange::from_span(new, target.page);
                target_update.hooks.map(&Piece::new(range, attrs, vma.data()));
            }
        }
        Ok(())
    }
}
