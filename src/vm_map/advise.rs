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
    /// for these pages become invalid before, those for other pages of the VMAs do not, and
    /// `flush_begin` follows.
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

    /// Changes page tables in a way that no VMA shows: marking pages copy-on-write, migrating them.
    /// To drop the pages of a part of a VMA, [`advise`](Self::advise) is better: it leaves faults
    /// at other pages alone.
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
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // The kernel moves pages to other frames.
    /// let mut moved = Vec::new();
    /// map.invalidate(0x5000, 0x1000, &mut NoHooks, |_hooks, vma| moved.push(vma.start()))?;
    /// assert_eq!(moved, [0x4000]); // whole VMAs
    /// # Ok::<(), Error>(())
    /// ```
    pub fn invalidate<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
        mut edit: impl FnMut(&mut U::Hooks, &Vma<'_, V>),
    ) -> Result<(), U::Error> {
        update.run(self, |map, update| {
            update.check_alloc(&map.alloc)?;
            let touched = map.touched(start, len);
            let range = map.whole_entries(touched).unwrap_or(touched);
            map.invalidate_range(range, update, |map, update| {
                map.vmas_in(range).for_each(|vma| edit(update.hooks, &vma));
            });
            Ok(())
        })
    }

    /// Lets `edit` change page tables in `range`: tokens for the pages there become invalid first,
    /// and `flush_begin` follows, whatever `edit` returns. If there is no VMA, `edit` runs all the
    /// same, and nothing is flushed. The caller has checked the allocator.
    pub(crate) fn invalidate_range<H: Hooks<V> + ?Sized, R>(
        &mut self,
        range: PageRange,
        update: &mut Update<'_, V, A, H>,
        edit: impl FnOnce(&Self, &mut Update<'_, V, A, H>) -> R,
    ) -> R {
        // Only readers without the lock want to know.
        let whole = if update.is_watched() { self.whole_entries(range) } else { None };
        let revoked = whole.map(|whole| whole.intersect(range));
        let plan = Plan::new(core::iter::empty::<Event<'_, V>>()).revokes(revoked);
        plan.prepared_already().apply(self, update, |changing| {
            changing.invalidate(range);
            edit(changing.map, changing.update)
        })
    }

    /// Returns the range from the start of the first entry in `range` to the end of the last.
    fn whole_entries(&self, range: PageRange) -> Option<PageRange> {
        let (first, last) = self.tree.entries(range).ends()?;
        Some(PageRange::new(first.range().start, last.range().end))
    }
}
