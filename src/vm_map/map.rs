//! Mapping, at a place that the map chooses or at a fixed one.

use super::change::{Edit, Plan, Ready};
use super::{Updater, VmMap};
use crate::error::Error;
use crate::hooks::{Event, Hooks, Piece};
use crate::node::NodeAlloc;
use crate::placement::{MapRequest, Placement};
use crate::range::{PageRange, VmRange};
use crate::split_merge::Merge;
use crate::update::Update;
use crate::vma::{Attrs, VmaData, VmaNode};

impl<V: VmaData, A: NodeAlloc<VmaNode<V>> + Clone> VmMap<V, A> {
    /// Maps, and returns the byte address. The new VMA is merged with its neighbours where
    /// attributes, offsets and the user data allow.
    ///
    /// O(log n + VMAs replaced). Needs up to 3 nodes. Hooks: `prepare` for the pieces that are
    /// replaced and for the new one; then `on_unmap` for those that were replaced, `flush_begin` if
    /// there was any, `on_map`. A [claim](Self::claim) in the way of [`Placement::Fixed`] is taken
    /// away.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::NoSpace`],
    /// [`Error::Overlap`], [`Error::SplitRefused`], [`Error::OutOfMemory`], or the error of
    /// `prepare`.
    ///
    /// ```
    /// use kvma::Search;
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let four = MapRequest::new(Placement::Fixed(0x4000), 0x4000, Attrs::new(Prot::RW));
    /// # map.map(four, &mut NoHooks)?;
    /// let rw = Attrs::new(Prot::RW);
    /// // Anywhere: the highest gap.
    /// let top = MapRequest::new(Placement::Any(Search::new().top_down()), 0x2000, rw);
    /// assert_eq!(map.map(top, &mut NoHooks)?, 0xf_e000);
    /// // There, if it is free. `map` has four pages from 0x4000 on.
    /// let free = MapRequest::new(Placement::FixedNoReplace(0x6000), 0x1000, rw);
    /// assert_eq!(map.map(free, &mut NoHooks), Err(Error::Overlap));
    /// // There, in place of what is mapped.
    /// let read = Attrs::new(Prot::READ);
    /// map.map(MapRequest::new(Placement::Fixed(0x6000), 0x1000, read), &mut NoHooks)?;
    /// assert_eq!(map.len(), 4);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn map<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        request: MapRequest<V>,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        update.run(self, |map, update| {
            let MapRequest { placement, len, attrs, data, merge } = request;
            match map.choose(placement, len) {
                Ok(chosen) => map.map_chosen(chosen, attrs, data, merge, update),
                Err(error) => {
                    update.owed.reject(data);
                    Err(error.into())
                }
            }
        })
    }

    /// Maps as [`map`](Self::map) does, with user data that `data` makes for the range that was
    /// chosen.
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map).
    ///
    /// ```
    /// use kvma::{Plain, Search};
    /// # use kvma::{Attrs, Error, FixedPool, MapRequest, NoHooks, PageSize, Placement, Prot};
    /// # use kvma::{VmMap, VmaNode};
    /// # let nodes = FixedPool::<VmaNode<Plain<u64>>, 16>::new();
    /// # let mut map = VmMap::new(0x1000..=0xf_ffff, PageSize::SIZE_4K, &nodes)?;
    /// // The data says where the mapping was made, which only the map knows.
    /// let anywhere = MapRequest::new(Placement::Any(Search::new()), 0x2000, Attrs::new(Prot::RW));
    /// let at = map.map_with(anywhere, |range| Plain(range.start()), &mut NoHooks)?;
    /// assert_eq!(map.find(at).map(|vma| vma.data().0), Some(at));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn map_with<By, U: Updater<V, A, By> + ?Sized>(
        &mut self,
        request: MapRequest,
        data: impl FnOnce(VmRange) -> V,
        update: &mut U,
    ) -> Result<u64, U::Error> {
        update.run(self, |map, update| {
            let chosen = map.choose(request.placement, request.len)?;
            let data = data(map.vm_range(chosen.range));
            map.map_chosen(chosen, request.attrs, data, request.merge, update)
        })
    }

    /// Decides on the range of a new mapping.
    pub(crate) fn choose(&self, placement: Placement, len: u64) -> Result<Chosen, Error> {
        let (range, is_free) = match placement {
            Placement::Any(search) => {
                let pages = self.page_size.pages(len)?;
                let start = self.find_gap_pages(pages, &search)?;
                (PageRange::new(start, start + pages), true)
            }
            Placement::Fixed(addr) => {
                let range = self.page_range(addr, len)?;
                (range, self.tree.is_free(range))
            }
            Placement::FixedNoReplace(addr) => {
                let range = self.page_range(addr, len)?;
                if !self.tree.is_free(range) {
                    return Err(Error::Overlap);
                }
                (range, true)
            }
        };
        Ok(Chosen { range, is_free })
    }

    /// Prepares for putting something there, in place of what is mapped; `new` are the events of
    /// what comes.
    pub(super) fn plan_placement<'m, H: Hooks<V> + ?Sized>(
        &'m self,
        chosen: Chosen,
        new: impl Iterator<Item = Event<'m, V>> + Clone,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<Ready, H::Error>
    where
        V: 'm,
    {
        let Chosen { range, is_free } = chosen;
        if is_free {
            return Plan::new(new).needs(1).ready(&self.alloc, update);
        }
        let removal = self.plan_removal(range)?;
        let old = removal.events();
        let replaces = update.is_watched() && old.clone().next().is_some();
        let plan = Plan::new(old.chain(new)).needs(removal.nodes + 1);
        plan.revokes(replaces.then_some(range)).ready(&self.alloc, update)
    }

    /// Maps in the range that was chosen, in which nothing has changed since.
    pub(crate) fn map_chosen<H: Hooks<V> + ?Sized>(
        &mut self,
        chosen: Chosen,
        attrs: Attrs,
        data: V,
        merge: Merge,
        update: &mut Update<'_, V, A, H>,
    ) -> Result<u64, H::Error> {
        let event = Event::Map(Piece::new(self.vm_range(chosen.range), attrs, &data));
        match self.plan_placement(chosen, core::iter::once(event), update) {
            Ok(ready) => ready.apply(self, update, |edit| {
                if chosen.is_free {
                    edit.insert(chosen.range, attrs, data, merge);
                } else {
                    edit.replace(chosen.range, attrs, data, merge);
                }
            }),
            Err(error) => {
                update.owed.reject(data);
                return Err(error);
            }
        }
        Ok(self.page_size.addr(chosen.range.start))
    }
}

/// The range of a new mapping.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    pub(super) range: PageRange,
    /// Nothing needs to be replaced.
    is_free: bool,
}

impl<V, A, H> Edit<'_, '_, V, A, H>
where
    V: VmaData,
    A: NodeAlloc<VmaNode<V>> + Clone,
    H: Hooks<V> + ?Sized,
{
    /// Removes what is in the place of a new claim, and begins the flush.
    pub(super) fn clear_for(&mut self, chosen: Chosen) {
        if !chosen.is_free {
            self.map.take_claims(chosen.range, &mut self.update.owed.nodes);
            self.remove(chosen.range);
            self.begin_flush();
        }
    }
}
