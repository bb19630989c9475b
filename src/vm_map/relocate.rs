//! Moving what is mapped to another address.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::{NodeAlloc, Removed};
use crate::range::Span;
use crate::ranges::Merge;
use crate::update::Update;
use crate::vma::{VmaData, VmaNode};

/// What becomes of the range that was moved from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is unmapped.
    Unmap,
    /// It stays mapped, emptied: page-table entries move, the VMAs remain (`MREMAP_DONTUNMAP`).
    Keep,
}

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Moves the VMAs in `len` bytes from `from` to `to`, contents and all, attributes and offsets
    /// kept. Holes stay holes. The target must be free and must not overlap the source. New VMAs
    /// are joined with their neighbours as `merge` says.
    ///
    /// O((VMAs + 1) log n). Needs 2 nodes and, with [`Source::Keep`], one more for each VMA. Hooks:
    /// `prepare`, `relocate` for each piece, `flush_begin`.
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::Overlap`],
    /// [`Error::SplitRefused`], [`Error::OutOfMemory`], [`Error::Busy`] (a part is reserved), or
    /// what `prepare` says.
    pub fn relocate<H: Hooks<V>>(
        &mut self,
        from: u64,
        len: u64,
        to: u64,
        source: Source,
        merge: Merge,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let span = self.span(from, len)?;
        let target = self.span(to, len)?;
        let (vmas, cost) = self.plan_removal(span)?;
        if !span.intersect(target).is_empty() || !self.tree.is_free(target) {
            return Err(Error::Overlap);
        }
        if vmas.clone().any(|vma| vma.attrs().is_reserved()) {
            return Err(Error::Busy);
        }
        let moved = |page: u64| page - span.start + target.start;
        let need = match source {
            Source::Unmap => cost,
            Source::Keep => vmas.clone().count(),
        };
        update.nodes.fill(need)?;
        let page = self.page;
        let events = vmas.map(|vma| {
            let piece = self.piece(vma, span);
            Event::Relocate { piece, to: page.addr(moved(piece.range().span().start)) }
        });
        prepare_all(update.hooks, events)?;

        if !self.tree.is_free(span) {
            update.announce(&self.tree, span);
            update.announce(&self.tree, target);
            if source == Source::Keep {
                self.tree.touch(span);
            }
        }
        let distance = target.start.wrapping_sub(span.start).cast_signed();
        let mut any = false;
        match source {
            Source::Unmap => {
                // The pieces wait in a list of their own: their nodes hold the VMAs again at once.
                let mut gathered = Removed::new(self.alloc.clone());
                self.tree.remove_range(span, &mut update.nodes, &mut gathered);
                while let Some((old, attrs, mut data)) = gathered.pop(&mut update.nodes) {
                    let new = Span::new(moved(old.start), moved(old.end));
                    data.relocate(distance);
                    self.tree.place(new, attrs, data, merge, &mut update.nodes);
                    self.tell_relocated(old, new.start, update);
                    any = true;
                }
            }
            Source::Keep => {
                let mut at = span.start;
                while let Some(vma) = self.tree.entries(Span::new(at, span.end)).next() {
                    let (whole, attrs) = (vma.span(), vma.attrs());
                    let old = whole.intersect(span);
                    let mut data = Self::fork_part(vma, span);
                    data.relocate(distance);
                    let attrs = attrs.advance(old.start - whole.start);
                    let new = Span::new(moved(old.start), moved(old.end));
                    self.tree.place(new, attrs, data, merge, &mut update.nodes);
                    self.tell_relocated(old, new.start, update);
                    at = old.end;
                    any = true;
                }
            }
        }
        if any {
            update.begin_flush();
        }
        Ok(())
    }

    fn tell_relocated<H: Hooks<V>>(&self, old: Span, to: u64, update: &mut Update<'_, V, A, H>) {
        if let Some(vma) = self.tree.find(to) {
            let attrs = vma.attrs().advance(to - vma.span().start);
            let piece = Piece::new(self.range(old), attrs, vma.data());
            update.hooks.relocate(&piece, self.page.addr(to));
        }
    }
}
