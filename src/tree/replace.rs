//! Putting an entry in the place of another one.

use super::CursorMut;
use super::entries::EntryRef;
use crate::node::{Content, DetachedNode, FreeNode};
use crate::range::PageRange;

impl<T: Content> CursorMut<'_, T> {
    /// Puts an entry over `range` in the place of the one here, whose contents move to `free`: no
    /// link is written, and nothing is rebalanced. `range` lies within the old range and the gaps
    /// on both sides, and `key` is the data's. Runs none of the kernel's code. Returns `free` as it
    /// was if there were no contents: at a claim. Nothing happens at the end.
    pub(crate) fn replace(
        &mut self,
        free: FreeNode<T>,
        range: PageRange<T::Position>,
        attrs: T::Attrs,
        data: T::Data,
        key: u64,
    ) -> Result<DetachedNode<T>, FreeNode<T>> {
        let Some(entry) = self.entry() else { return Err(free) };
        let (old_range, old_attrs) = (entry.range(), entry.attrs());
        let after = self.node_after();
        let node = self.node();
        let gap_start = node.start.get() - self.tree.free_before(node);
        // SAFETY: an entry is not the last node.
        let next = unsafe { &*after };
        debug_assert!(
            !range.is_empty() && gap_start <= range.start && range.end <= next.start.get()
        );
        let grows = range.end > old_range.end;
        if grows {
            self.tree.set_free_before(next, next.start.get() - range.end);
        }
        // Up to `write_end` there are only plain stores.
        node.write_begin();
        // SAFETY: an entry says itself whether it has data, and we have the tree to ourselves. The
        // old data moves out before the new data moves in.
        let old_data = unsafe {
            let old_data = node.has_data().then(|| node.take_data());
            node.put_data(data);
            old_data
        };
        node.start.set(range.start);
        node.end.set(range.end);
        let hot = node.store(&attrs, key);
        self.tree.end_with_free(node, hot, range.start - gap_start);
        if !grows {
            self.tree.set_free_before(next, next.start.get() - range.end);
        }
        self.tree.pages = self.tree.pages - old_range.len() + range.len();
        match old_data {
            Some(data) => Ok(free.fill(old_range, old_attrs, data)),
            None => Err(free),
        }
    }

    /// Returns the range of the next entry; empty, and above all others, at the last one.
    pub(crate) fn next_range(&mut self) -> PageRange<T::Position> {
        // SAFETY: null or a linked node.
        let next = unsafe { self.node_after().as_ref() }.unwrap_or(self.tree.sentinel());
        EntryRef::new(next).range()
    }
}
