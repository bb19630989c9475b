//! Unmapping the VMAs that nobody wants any more.

use super::VmMap;
use crate::error::Error;
use crate::hooks::{Event, Hooks, prepare_all};
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::update::Update;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Unmaps every VMA that `keep` does not want, each whole, and returns the pages removed.
    /// `keep` is asked several times and must answer the same.
    ///
    /// O(n + removed log n). Needs no node. Hooks: `prepare`, `unmap` for each VMA, `flush_begin`
    /// if there was any. Fails only if `prepare` does.
    pub fn retain<H: Hooks<V>>(
        &mut self,
        keep: impl Fn(&Vma<'_, V>) -> bool,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, Error> {
        update.check_alloc(&self.alloc)?;
        let all = self.tree.space();
        let page = self.page;
        let unwanted = |map: &Self, rest| {
            map.tree.entries(rest).find(|vma| !keep(&Vma::new(*vma, page))).map(|vma| vma.span())
        };
        // Hooks have never heard of what is reserved.
        let known = self.tree.entries(all).filter(|vma| !vma.attrs().is_reserved());
        let gone = known.filter(|vma| !keep(&Vma::new(*vma, page)));
        prepare_all(update.hooks, gone.map(|vma| Event::Unmap(self.piece(vma, all))))?;

        if update.is_watched() && unwanted(self, all).is_some() {
            update.announce(&self.tree, all);
        }
        let (before, pages) = (update.gathered.len(), self.tree.pages());
        let mut rest = all;
        while let Some(span) = unwanted(self, rest) {
            self.tree.remove_range(span, &mut update.nodes, &mut update.gathered);
            rest = Span::new(span.end, all.end);
        }
        if self.tell_unmapped(before, update) {
            update.begin_flush();
        }
        Ok(pages - self.tree.pages())
    }
}
