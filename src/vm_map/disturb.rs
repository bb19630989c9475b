//! Editing page tables under areas that stay as they are.

use super::VmMap;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::node::NodeAlloc;
use crate::range::Span;
use crate::update::Update;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// For a change of page tables that no area shows: marking pages copy-on-write, giving pages back
    /// (`MADV_DONTNEED`), migrating them.
    ///
    /// Every area that shares a byte with `len` bytes from `start` counts as changed, so that page
    /// faults which have looked it up [look again](crate::AddrSpace::still_valid). Then `edit` is called
    /// with each such area, whole, ascending; then `flush_begin` if there was any. Until the flush has
    /// ended, faults there get no valid token.
    ///
    /// O(log n + areas). Needs no node. Unaligned numbers and parts outside the space are fine.
    pub fn disturb<H: Hooks<V>>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut Update<'_, V, A, H>,
        mut edit: impl FnMut(&mut H, &Vma<'_, V>),
    ) -> Result<(), Error> {
        update.check_alloc(&self.alloc)?;
        let span = self.touched(start, len);
        self.disturb_span(span, update, |map, update| {
            map.tree.areas(span).for_each(|area| edit(update.hooks, &Vma::new(area, map.page)));
        });
        Ok(())
    }

    /// Lets `edit` change page tables in `span`: tokens of the areas there die first, and `flush_begin`
    /// follows, whatever came of it. If there is no area, `edit` runs all the same, and nothing is flushed.
    pub(crate) fn disturb_span<H: Hooks<V>, R>(
        &mut self,
        span: Span,
        update: &mut Update<'_, V, A, H>,
        edit: impl FnOnce(&Self, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        let (Some(first), Some(last)) = (self.tree.areas(span).next(), self.tree.areas(span).next_back())
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
