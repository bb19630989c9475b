//! Changes of single VMAs that no hooks are told of: for the books that a layer keeps in maps of
//! its own, beside the one that hooks and readers without the lock know.
//!
//! Nothing is prepared, flushed or owed, so these go through none of the steps in `change`. Whoever
//! calls them has made sure that the range is free and that there is a node.

#[cfg(all(test, feature = "alloc", not(loom)))]
mod tests;

use super::VmMap;
use crate::node::{NodeAlloc, Preallocated};
use crate::range::PageRange;
use crate::tree::{Below, EntryRef};
use crate::vma::{Attrs, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Adds a VMA over `len` bytes from `start`, and merges it with none. O(log n).
    ///
    /// # Errors
    ///
    /// Returns the data if the range is not free, or if there is no node.
    pub(crate) fn enter(
        &mut self,
        start: u64,
        len: u64,
        attrs: Attrs,
        data: V,
        nodes: &mut Preallocated<VmaNode<V>, A>,
    ) -> Result<(), V> {
        let Ok(range) = self.page_range(start, len) else { return Err(data) };
        if !self.tree.is_free(range) {
            return Err(data);
        }
        let Some(free) = nodes.take() else { return Err(data) };
        self.tree.cursor(range.start).insert_before(free, range, attrs, Some(data));
        Ok(())
    }

    /// Removes the VMA that holds the byte at `addr`, all of it, and returns its data. Its node
    /// goes to `nodes`. O(log n), without a walk if the VMA was [found](Self::find_again) last.
    pub(crate) fn take(&mut self, addr: u64, nodes: &mut Preallocated<VmaNode<V>, A>) -> Option<V> {
        self.find_again(addr)?;
        let removed = self.tree.cursor(self.page_size.page(addr)).remove()?;
        let (free, data) = removed.empty();
        nodes.put(free);
        data
    }

    /// Changes the data of the VMA that holds the byte at `addr`, of which readers without the lock
    /// see nothing: tokens stay valid. O(log n), without a walk if the VMA was
    /// [found](Self::find_again) last.
    #[inline]
    pub(crate) fn amend<R>(&mut self, addr: u64, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        self.find_again(addr)?;
        self.tree.cursor(self.page_size.page(addr)).change_unseen(change)
    }

    /// Gives the VMA that begins at `start` another length, if what is behind it is free that far.
    /// O(log n).
    pub(crate) fn resize(&mut self, start: u64, len: u64) {
        let Ok(range) = self.page_range(start, len) else { return };
        let Some(old) = self.find_again(start).map(|vma| vma.entry().range()) else { return };
        let grown = PageRange::new(old.end, range.end.max(old.end));
        if old.start != range.start || !(grown.is_empty() || self.tree.is_free(grown)) {
            return;
        }
        let mut cursor = self.tree.cursor(range.start);
        let Some(attrs) = cursor.entry().map(EntryRef::attrs) else { return };
        cursor.change(range, attrs, Below::Free, |_| ());
    }
}
