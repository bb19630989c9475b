//! Editing page tables under VMAs that stay as they are.

use super::VmMap;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::update::Update;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// For a change of page tables that no VMA shows: marking pages copy-on-write, giving pages
    /// back (`MADV_DONTNEED`), migrating them.
    ///
    /// Every VMA that shares a byte with `len` bytes from `start` counts as changed, so that page
    /// faults which have looked it up [look again](crate::AddrSpace::still_valid). Then `edit` is
    /// called with each such VMA, whole, ascending; then `flush_begin` if there was any. Until the
    /// flush has ended, faults there get no valid token.
    ///
    /// O(log n + VMAs). Needs no node. Unaligned numbers and parts outside the space are fine.
    pub fn invalidate<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
        mut edit: impl FnMut(&mut H, &Vma<'_, V>),
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let span = self.touched(start, len);
        self.invalidate_range(span, update, |map, update| {
            map.tree.entries(span).for_each(|vma| edit(update.hooks, &Vma::new(vma, map.page)));
        });
        Ok(())
    }

    /// Lets `edit` change page tables in `span`: tokens of the VMAs there die first, and
    /// `flush_begin` follows, whatever came of it. If there is no VMA, `edit` runs all the same,
    /// and nothing is flushed.
    pub(crate) fn invalidate_range<H: Hooks<V>, R>(
        &mut self,
        span: Span,
        update: &mut Update<'_, V, A, H>,
        edit: impl FnOnce(&Self, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        let (Some(first), Some(last)) =
            (self.tree.entries(span).next(), self.tree.entries(span).next_back())
        else {
            return edit(self, update);
        };
        update.announce(&self.tree, Span::new(first.span().start, last.span().end));
        self.tree.touch(span);
        let result = edit(self, update);
        update.begin_flush();
        result
    }
}
