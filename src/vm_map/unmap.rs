//! Unmapping: a range, everything, or the VMAs that are no longer wanted.

use super::change::Plan;
use super::{Updater, VmMap};
#[cfg(doc)]
use crate::error::Error;
#[cfg(feature = "guest")]
use crate::hooks::Piece;
use crate::hooks::{Event, Hooks};
use crate::node::NodeAlloc;
use crate::range::PageRange;
#[cfg(feature = "guest")]
use crate::range::VmRange;
use crate::update::Update;
use crate::vma::{Vma, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Unmaps `len` bytes from `start`; gaps are fine (munmap(2)). Returns the bytes removed,
    /// `u64::MAX` for 2^64. [Claims](Self::claim) stay.
    ///
    /// O(log n + VMAs removed). Needs a node for each VMA that is split, at most 2; none to remove
    /// whole VMAs. Hooks: `prepare`, `on_unmap` for each piece, `flush_begin` if there was any.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::SplitRefused`],
    /// [`Error::OutOfMemory`], or the error of `prepare`.
    ///
    /// ```
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // Four pages are mapped, from 0x4000 on. The second and the third go, and the rest stays.
    /// assert_eq!(map.unmap(0x5000, 0x2000, &mut NoHooks)?, 0x2000);
    /// let starts: Vec<_> = map.iter().map(|vma| vma.start()).collect();
    /// assert_eq!(starts, [0x4000, 0x7000]);
    /// assert_eq!(map.unmap(0x5000, 0x2000, &mut NoHooks)?, 0); // a gap is fine
    /// # Ok::<(), Error>(())
    /// ```
    pub fn unmap<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        update.run(self, |map, update| {
            let range = map.page_range(start, len)?;
            map.unmap_pages(range, update)
        })
    }

    /// Unmaps everything. Returns the bytes removed, `u64::MAX` for 2^64. Needs no node; else as
    /// [`unmap`](Self::unmap).
    ///
    /// # Errors
    ///
    /// The error of `prepare`.
    pub fn clear<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        update.run(self, |map, update| map.unmap_pages(map.tree.space(), update))
    }

    /// Unmaps every VMA that `keep` does not want, each whole. Returns the bytes removed. `keep` is
    /// asked several times and must answer the same.
    ///
    /// O(n + removed log n). Needs no node. Hooks: `prepare`, `on_unmap` for each VMA,
    /// `flush_begin` if there was any.
    ///
    /// # Errors
    ///
    /// The error of `prepare`.
    ///
    /// ```
    /// # use kvma::Backing;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// // A device is unplugged: its memory goes, wherever it is mapped.
    /// let device = Attrs::new(Prot::RW).with_backing(Backing::Object { id: 7, offset: 0 });
    /// map.map(MapRequest::new(Placement::Fixed(0x1_0000), 0x1000, device), &mut NoHooks)?;
    /// let unmapped = map.retain(
    ///     |vma| !matches!(vma.attrs().backing(), Backing::Object { id: 7, .. }),
    ///     &mut NoHooks,
    /// )?;
    /// assert_eq!(unmapped, 0x1000);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn retain<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        keep: impl Fn(&Vma<'_, V>) -> bool,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        update.run(self, |map, update| {
            let all = map.tree.space();
            let unwanted = map.iter().filter(|vma| !keep(vma));
            let gone = unwanted.filter_map(|vma| map.piece(vma.entry(), all).map(Event::Unmap));
            let plan = Plan::new(gone).revokes_if_any(all);
            let ready = plan.ready(&map.alloc, update)?;
            let before = map.mapped_pages();
            ready.apply(map, update, |edit| {
                let mut rest = all;
                while let Some(range) = edit.map.first_unwanted(rest, &keep) {
                    edit.remove(range);
                    rest.start = range.end;
                }
            });
            Ok(map.bytes(before - map.mapped_pages()))
        })
    }

    /// Unmaps all VMAs in `range`, which lies in the space. O(1) to plan where that is one VMA, all
    /// of it, which was [found](Self::find_again) last.
    ///
    /// # Errors
    ///
    /// Those of [`unmap`](Self::unmap).
    #[cfg(feature = "guest")]
    pub(crate) fn unmap_found<H: Hooks<V> + ?Sized>(
        &mut self,
        range: VmRange,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), H::Error> {
        let pages = range.page_range();
        let whole = self.tree.find_again(pages.start).filter(|entry| entry.range() == pages);
        let gone = whole.and_then(|entry| Some(Piece::new(range, entry.attrs(), entry.data()?)));
        let Some(gone) = gone else { return self.unmap_pages(pages, update).map(|_| ()) };
        let plan = Plan::new(core::iter::once(Event::Unmap(gone)));
        let revoked = update.is_watched().then_some(pages);
        let ready = plan.revokes(revoked).ready(&self.alloc, update)?;
        ready.apply(self, update, |edit| edit.remove_one(pages));
        Ok(())
    }

    fn first_unwanted(
        &self,
        rest: PageRange,
        keep: &impl Fn(&Vma<'_, V>) -> bool,
    ) -> Option<PageRange> {
        let mut vmas = self.tree.entries(rest).filter_map(|entry| Vma::new(entry, self.page_size));
        vmas.find(|vma| !keep(vma)).map(|vma| vma.entry().range())
    }

    fn unmap_pages<H: Hooks<V> + ?Sized>(
        &mut self,
        range: PageRange,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, H::Error> {
        let removal = self.plan_removal(range)?;
        let plan = Plan::new(removal.events()).needs(removal.nodes);
        let ready = plan.revokes_if_any(range).ready(&self.alloc, update)?;
        let before = self.mapped_pages();
        ready.apply(self, update, |edit| edit.remove(range));
        Ok(self.bytes(before - self.mapped_pages()))
    }
}

/// Unmapping a batch at a time, for whoever releases the lock in between.
impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Returns the front of `range` with its first `limit` VMAs: all of it if there are no more.
    pub(crate) fn first_batch(&self, range: PageRange, limit: usize) -> PageRange {
        let mut entries = self.tree.entries(range).skip(limit.saturating_sub(1));
        match (entries.next(), entries.next()) {
            (Some(last), Some(_)) => PageRange::new(range.start, last.range().end.min(range.end)),
            _ => range,
        }
    }

    /// Begins to unmap `len` bytes from `start`. With at most `limit` VMAs in the range, this is
    /// [`unmap`](Self::unmap), and nothing is left to do. Else it does everything that can fail,
    /// splits VMAs at the ends of the range, and unmaps the first batch. Returns the pages removed,
    /// and the range that is left for [`unmap_batch`](Self::unmap_batch).
    ///
    /// If something is left, hooks have prepared for the pieces that were split off, and for no
    /// others: nothing of the other VMAs is left.
    pub(crate) fn begin_unmap<H: Hooks<V> + ?Sized>(
        &mut self,
        start: u64,
        len: u64,
        limit: usize,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(u64, PageRange), H::Error> {
        let range = self.page_range(start, len)?;
        if self.first_batch(range, limit) == range {
            let before = self.mapped_pages();
            self.unmap_pages(range, update)?;
            return Ok((before - self.mapped_pages(), PageRange::new(range.end, range.end)));
        }
        let plan = Plan::new(self.split_events(range)).needs(self.plan_removal(range)?.nodes);
        let ready = plan.ready(&self.alloc, update)?;
        ready.apply(self, update, |edit| {
            for page in [range.start, range.end] {
                edit.map.split_unless_claim(page, &mut edit.update.owed.nodes.free);
            }
        });
        self.unmap_batch(range, limit, update)
    }

    /// Unmaps the first `limit` VMAs of `rest`. Returns the pages removed and the range that is
    /// left.
    ///
    /// Fails only because of other threads: one of them has put a map of other nodes in the place
    /// of this one ([`Error::ForeignNodes`]), or has since mapped or merged a VMA across the
    /// beginning or the end of `rest`, and the hooks refuse to prepare for the piece, or there is
    /// no node for it. Such a VMA is split whatever its granularity: it has met a VMA there that
    /// was not part of it.
    pub(crate) fn unmap_batch<H: Hooks<V> + ?Sized>(
        &mut self,
        rest: PageRange,
        limit: usize,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(u64, PageRange), H::Error> {
        let batch = self.first_batch(rest, limit);
        let revoked = (!self.tree.is_free(batch)).then_some(batch);
        let plan = Plan::new(self.split_events(batch)).needs(self.tree.remove_cost(batch));
        let ready = plan.revokes(revoked).ready(&self.alloc, update)?;
        let before = self.mapped_pages();
        ready.apply(self, update, |edit| edit.remove(batch));
        Ok((before - self.mapped_pages(), PageRange::new(batch.end, rest.end)))
    }

    /// Lets the hooks prepare for the first and the last VMA of `range`, which have been split off
    /// others or may have been.
    #[cfg(feature = "linux")]
    pub(crate) fn prepare_ends<H: Hooks<V> + ?Sized>(
        &self,
        range: PageRange,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<(), H::Error> {
        let mut entries = self.tree.entries(range);
        let ends = [entries.next(), entries.next_back()].into_iter().flatten();
        let events = ends.filter_map(|entry| self.piece(entry, range).map(Event::Unmap));
        // Of the pieces nothing else needs to be planned.
        let _ = Plan::new(events).ready(&self.alloc, update)?;
        Ok(())
    }

    /// Returns the event of unmapping for each piece that an end of `range` splits off a VMA.
    fn split_events(&self, range: PageRange) -> impl Iterator<Item = Event<'_, V>> + Clone {
        let ends = self.tree.entries(range).ends().map_or([None; 2], |(first, last)| {
            let is_one = first.range() == last.range();
            [Some(first), (!is_one).then_some(last)]
        });
        let split = ends.into_iter().flatten().filter(move |entry| {
            let whole = entry.range();
            whole != whole.intersect(range)
        });
        split.filter_map(move |entry| self.piece(entry, range).map(Event::Unmap))
    }
}
