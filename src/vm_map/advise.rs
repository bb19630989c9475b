//! Editing page tables under VMAs that stay as they are: advice, and any other reason.

use super::change::Plan;
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Advice, Event, Hooks};
use crate::node::NodeAlloc;
use crate::range::PageRange;
use crate::update::Update;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Passes advice about `len` bytes from `start`, all of which must be mapped, to
    /// [`Hooks::on_advise`], for each piece, ascending. If the advice takes pages away, tokens
    /// become invalid before, as by [`invalidate`](Self::invalidate), and `flush_begin` follows.
    ///
    /// O(log n + VMAs). Needs no node.
    ///
    /// # Errors
    ///
    /// [`Error::NotMapped`] if there is a gap, and no hook has been called; [`Error::ZeroLength`],
    /// [`Error::Unaligned`], [`Error::OutOfRange`].
    pub fn advise<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        advice: Advice,
        update: &mut U,
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            let range = map.page_range(start, len)?;
            if !map.is_covered(range) {
                return Err(Error::NotMapped.into());
            }
            update.check_alloc(&map.alloc)?;
            let tell = |map: &Self, update: &mut Update<'_, V, A, U::Hooks>| {
                map.pieces_in(range).for_each(|piece| update.hooks.on_advise(&piece, advice));
            };
            if advice.takes_pages() {
                map.invalidate_range(range, update, tell);
            } else {
                tell(map, update);
            }
            Ok(())
        })
    }

    /// Changes page tables in a way that no VMA shows: marking pages copy-on-write, giving pages
    /// back (`MADV_DONTNEED`), migrating them.
    ///
    /// Tokens of every VMA that shares a byte with `len` bytes from `start` become invalid, so that
    /// page faults which have looked it up [look again](crate::AddrSpace::still_valid). Then `edit`
    /// is called with each such VMA, whole, ascending; then `flush_begin` if there was any. Until
    /// the flush has ended, faults there get no valid token.
    ///
    /// O(log n + VMAs). Needs no node. Unaligned numbers and parts outside the space are fine.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignNodes`].
    pub fn invalidate<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
        mut edit: impl FnMut(&mut U::Hooks, &Vma<'_, V>),
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            update.check_alloc(&map.alloc)?;
            let range = map.touched(start, len);
            map.invalidate_range(range, update, |map, update| {
                map.vmas_in(range).for_each(|vma| edit(update.hooks, &vma));
            });
            Ok(())
        })
    }

    /// Lets `edit` change page tables in `range`: tokens of the VMAs there become invalid first,
    /// and `flush_begin` follows, whatever `edit` returns. If there is no VMA, `edit` runs all the
    /// same, and nothing is flushed. The caller has checked the allocator.
    pub(crate) fn invalidate_range<H: Hooks<V> + ?Sized, R>(
        &mut self,
        range: PageRange,
        update: &mut Update<'_, V, A, H>,
        edit: impl FnOnce(&Self, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        // Only readers without the lock want to know.
        let ends = if update.is_watched() { self.tree.entries(range).ends() } else { None };
        let whole = ends.map(|(first, last)| PageRange::new(first.range().start, last.range().end));
        let plan = Plan::new(core::iter::empty::<Event<'_, V>>()).revokes(whole);
        plan.prepared_already().apply(self, update, |changing| {
            changing.invalidate(range);
            edit(changing.map, changing.update)
        })
    }
}
