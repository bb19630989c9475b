//! Changing attributes: protection, and everything else that a VMA has.

use super::VmMap;
use crate::error::Error;
use crate::flags::Prot;
use crate::hooks::{Event, Hooks, Piece, prepare_all};
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::tree::EntryRef;
use crate::update::Update;
use crate::vma::{Attrs, Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Changes the protection of `len` bytes from `start`, all of which must be mapped
    /// (mprotect(2)).
    ///
    /// O(log n + VMAs). Needs at most 2 nodes. Hooks: `prepare` and `protect` for each piece whose
    /// protection changes, then `flush_begin` if there was any.
    ///
    /// [`Error::NotMapped`] if there is a hole, and those of [`update_attrs`](Self::update_attrs).
    pub fn protect<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        prot: Prot,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let span = self.span(start, len)?;
        if !self.is_covered(span) {
            return Err(Error::NotMapped);
        }
        self.modify(span, |vma| vma.attrs().with_prot(prot), update)
    }

    /// Gives each VMA in `len` bytes from `start` the attributes that `new` says; holes are passed
    /// over. `new` gets the whole VMA and answers for it; it is asked several times and must answer
    /// the same.
    ///
    /// VMAs whose attributes stay are neither split nor joined. Each piece that changes is joined
    /// with its neighbours where it can be. Costs and hooks as [`protect`](Self::protect).
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::SplitRefused`],
    /// [`Error::OutOfMemory`], or what `prepare` says.
    pub fn update_attrs<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        new: impl Fn(&Vma<'_, V>) -> Attrs,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        let span = self.span(start, len)?;
        self.modify(span, new, update)
    }

    /// Changes the owner's data of the VMA that holds `addr`, and returns what `change` does.
    /// Splits and joins nothing, calls no hook. O(log n).
    pub fn update_data<R>(
        &mut self,
        addr: u64,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R, Error> {
        let page = self.page.page(addr);
        if self.tree.find(page).is_none() {
            return Err(Error::NotMapped);
        }
        self.tree.cursor(page).change_data(change).ok_or(Error::NotMapped)
    }

    fn modify<H: Hooks<V>>(
        &mut self,
        span: Span,
        new: impl Fn(&Vma<'_, V>) -> Attrs,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let page = self.page;
        // What is reserved stays as it is until its holder has done.
        let new = |vma: &Vma<'_, V>| {
            let old = vma.attrs();
            if old.is_reserved() { old } else { new(vma) }
        };
        let mut answer = |vma: EntryRef<'_, VmaNode<V>>| new(&Vma::new(vma, page));
        let vmas = self.tree.entries(span);
        let mut need = 0;
        for vma in vmas.clone().filter(|vma| answer(*vma) != vma.attrs()) {
            need += self.cost_of_cut(vma, span.start)? + self.cost_of_cut(vma, span.end)?;
        }
        update.nodes.fill(need)?;
        let changes = vmas.filter_map(|vma| {
            let attrs = new(&Vma::new(vma, page));
            let old = self.piece(vma, span);
            let ahead = span.start.saturating_sub(vma.span().start);
            let piece = Piece::new(old.range(), attrs.advance(ahead), old.data());
            (attrs != vma.attrs()).then_some(Event::Protect { piece, old: old.attrs() })
        });
        prepare_all(update.hooks, changes.clone())?;

        if update.is_watched() && changes.clone().next().is_some() {
            update.announce(&self.tree, span);
        }
        let hooks = &mut *update.hooks;
        let mut changed = false;
        self.tree.modify(
            span,
            &mut update.nodes,
            &mut answer,
            &mut |vma: EntryRef<'_, VmaNode<V>>, old| {
                let vma = Vma::new(vma, page);
                hooks.protect(&Piece::new(vma.range(), vma.attrs(), vma.data()), &old);
                changed = true;
            },
        );
        if changed {
            update.begin_flush();
        }
        Ok(())
    }

    /// Whether every page of `span` is mapped, and not only reserved.
    pub(super) fn is_covered(&self, span: Span) -> bool {
        let mut end = span.start;
        for vma in self.tree.entries(span) {
            if vma.span().start > end || vma.attrs().is_reserved() {
                return false;
            }
            end = vma.span().end;
        }
        end >= span.end
    }
}
