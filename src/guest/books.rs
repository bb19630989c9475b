//! The books that a guest keeps beside its regions: slots by number, and uses of the host's memory.

use super::backing::HostBacking;
use super::data::{Content, GuestAlloc, GuestData, SlotEntry};
use super::refusal::Refusal;
use super::region::{Region, RegionState, with_slot, with_state};
use super::slot::{Slot, SlotNumber};
use super::with_nodes_of;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::placement::{MapRequest, Placement, Search};
use crate::range::{PageSize, VmRange};
use crate::split_merge::Merge;
use crate::vm_map::{Update, VmMap, Vmas};
use crate::vma::{Attrs, Backing, Vma};

/// How many slots at most can show the same byte of the host's memory, or the same offset in files.
pub const MAX_LAYERS: u32 = 4095;

/// The bits of a place that are the page; the layer is above.
const PAGE_BITS: u32 = 52;
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;

/// Slots and uses. Positions of both maps are plain numbers.
pub(super) struct Books<D, A: GuestAlloc<D>> {
    /// By number.
    slots: VmMap<GuestData<D>, A>,
    /// By layer and page.
    uses: VmMap<GuestData<D>, A>,
    /// Layers from here on are empty.
    layers: u32,
    page_size: PageSize,
}

/// A slot that can be entered: nothing is in its way.
pub(super) struct NewSlot {
    pub(super) number: SlotNumber,
    place: Option<u64>,
}

impl<D, A: GuestAlloc<D>> Books<D, A> {
    /// Takes two nodes.
    pub(super) fn new(page_size: PageSize, alloc: A) -> Result<Self, Error> {
        let one = PageSize::new(1)?;
        let last = u64::from(SlotNumber::MAX.get());
        let slots = VmMap::new(0..=last, one, alloc.clone())?;
        let uses = VmMap::new(0..=(u64::from(MAX_LAYERS) << PAGE_BITS) - 1, one, alloc)?;
        Ok(Self { slots, uses, layers: 0, page_size })
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, number: SlotNumber) -> Option<Slot<'_, D>> {
        self.slots.find(number.get().into()).and_then(|vma| as_slot(&vma))
    }

    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = Slot<'_, D>> + Clone {
        self.slots.iter().filter_map(|vma| as_slot(&vma))
    }

    pub(super) fn update_data<R>(
        &mut self,
        number: SlotNumber,
        change: impl FnOnce(&mut D) -> R,
    ) -> Option<R> {
        let change = |data: &mut GuestData<D>| match &mut data.0 {
            Content::Slot(entry) => Some(change(&mut entry.data)),
            Content::Region | Content::Use => None,
        };
        self.slots.update_data(number.get().into(), change).ok().flatten()
    }

    /// Decides on the number and the layer of a new slot.
    pub(super) fn plan<E: From<Error>>(
        &self,
        number: Option<SlotNumber>,
        backing: HostBacking,
        len: u64,
    ) -> Result<NewSlot, Refusal<E>> {
        let number = match number {
            Some(number) if self.slots.is_free(number.get().into(), 1) => number,
            Some(_) => return Err(Refusal::NumberTaken),
            None => {
                let lowest = self.slots.find_gap(1, &Search::new().bottom_up());
                SlotNumber::new(lowest.map_err(|_| Refusal::NumberTaken)? as u32)
            }
        };
        if !backing.is_findable() {
            return Ok(NewSlot { number, place: None });
        }
        let place = self.plan_use(backing, len);
        // Where the only layer is free, nothing is kept.
        let is_free = self.layers <= 1 && place.as_ref().is_ok_and(|place| place >> PAGE_BITS == 0);
        let is_kept = |shown: Use| shown.slot() == SlotNumber::NOBODY;
        if !is_free && self.uses(backing, len).any(is_kept) {
            return Err(Refusal::HostMemory);
        }
        Ok(NewSlot { number, place: Some(place?) })
    }

    /// Finds the lowest layer where a use has room.
    pub(super) fn plan_use<E: From<Error>>(
        &self,
        backing: HostBacking,
        len: u64,
    ) -> Result<u64, Refusal<E>> {
        let (page, count) = self.pages(backing, len);
        // Only pages below 4 KiB have numbers that long.
        if page + (count - 1) > PAGE_MASK {
            return Err(Error::OutOfRange.into());
        }
        (0..MAX_LAYERS)
            .map(|layer| place(layer, page))
            .find(|&place| self.uses.is_free(place, count))
            .ok_or(Refusal::TooManyAliases)
    }

    /// Enters a slot. `update` has two nodes for it.
    pub(super) fn enter<H: Hooks<GuestData<D>> + ?Sized>(
        &mut self,
        new: NewSlot,
        range: VmRange,
        attrs: Attrs,
        data: D,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) -> Result<(), Error> {
        if let Some(place) = new.place {
            self.enter_use(place, range.page_count(), attrs, update)?;
        }
        let number = u64::from(new.number.get());
        let entry = SlotEntry { range, place: new.place, data };
        let request = MapRequest::new(Placement::FixedNoReplace(number), 1, attrs)
            .with_data(GuestData(Content::Slot(entry)))
            .with_merge(Merge::Never);
        let (result, _) =
            with_nodes_of(&mut self.slots, update, |slots, update| slots.map(request, update));
        if result.is_err()
            && let Some(place) = new.place
        {
            self.remove_use(place, update);
        }
        result.map(drop)
    }

    /// Enters a use at a place that is free.
    pub(super) fn enter_use<H: Hooks<GuestData<D>> + ?Sized>(
        &mut self,
        place: u64,
        count: u64,
        attrs: Attrs,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) -> Result<(), Error> {
        let request = MapRequest::new(Placement::FixedNoReplace(place), count, attrs)
            .with_data(GuestData::USE)
            .with_merge(Merge::Never);
        let (result, _) =
            with_nodes_of(&mut self.uses, update, |uses, update| uses.map(request, update));
        result?;
        self.layers = self.layers.max((place >> PAGE_BITS) as u32 + 1);
        Ok(())
    }

    /// Removes a slot, and returns its data. Needs no node, so nothing can fail.
    pub(super) fn remove<H: Hooks<GuestData<D>> + ?Sized>(
        &mut self,
        number: SlotNumber,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) -> Option<D> {
        let number = u64::from(number.get());
        let (_, removed) =
            with_nodes_of(&mut self.slots, update, |slots, update| slots.unmap(number, 1, update));
        let Content::Slot(SlotEntry { place, data, .. }) = removed?.0 else { return None };
        if let Some(place) = place {
            self.remove_use(place, update);
        }
        Some(data)
    }

    /// Removes the use that begins at `place`.
    pub(super) fn remove_use<H: Hooks<GuestData<D>> + ?Sized>(
        &mut self,
        place: u64,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) {
        let Some(vma) = self.uses.find(place) else { return };
        let count = vma.page_count();
        let _ =
            with_nodes_of(&mut self.uses, update, |uses, update| uses.unmap(place, count, update));
        if self.uses.is_empty() {
            self.layers = 0;
        }
        while self.layers > 1 && self.layer(self.layers - 1).next().is_none() {
            self.layers -= 1;
        }
    }

    /// Moves a slot and changes its state, as [`Guest::modify_slot`](super::Guest::modify_slot) has
    /// done with its regions. Needs no node, so nothing can fail.
    pub(super) fn modify<H: Hooks<GuestData<D>> + ?Sized>(
        &mut self,
        number: SlotNumber,
        range: VmRange,
        change: impl Fn(RegionState) -> RegionState,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) {
        let at = u64::from(number.get());
        let _ = self.slots.update_data(at, |data| {
            if let Content::Slot(entry) = &mut data.0 {
                entry.range = range;
            }
        });
        let _ = with_nodes_of(&mut self.slots, update, |slots, update| {
            let new = |vma: &Vma<'_, GuestData<D>>| {
                let region = Region::new(vma.range(), vma.attrs());
                with_state(region.attrs(), change(region.state()))
            };
            slots.update_attrs(at, 1, new, update)
        });
    }

    /// Iterates over the parts of slots that show `len` bytes of `backing`, each with its number
    /// and its range of guest-physical addresses; in no order.
    pub(super) fn uses(
        &self,
        backing: HostBacking,
        len: u64,
    ) -> impl Iterator<Item = Use> + use<'_, D, A> {
        let (page, count) = self.pages(backing, len);
        let (tag, object) = backing.encode();
        let is_same = move |attrs: Attrs| {
            let has = Region::new(self.slots.space(), attrs).backing().encode();
            has.0 == tag && same_object(has.1, object)
        };
        // Nothing is entered beyond what a place can hold.
        let count = count.min((PAGE_MASK + 1).saturating_sub(page));
        let layers = if count == 0 { 0 } else { self.layers };
        (0..layers)
            .flat_map(move |layer| self.uses.overlapping(place(layer, page), count))
            .filter(move |vma| is_same(vma.attrs()))
            .map(move |vma| {
                let number = SlotNumber::new(vma.attrs().user_bits() as u32);
                // In pages from the beginning of the slot.
                let begins = vma.start() & PAGE_MASK;
                let first = page.max(begins) - begins;
                let last = (page + (count - 1)).min(begins + (vma.page_count() - 1)) - begins;
                Use { number, first, last, begins }
            })
    }

    /// Returns the range of guest-physical addresses of a use.
    pub(super) fn range_of(&self, shown: &Use) -> Option<VmRange> {
        let start = self.slot(shown.number)?.range().start();
        let at = |pages: u64| start.checked_add(self.page_size.addr(pages));
        let last = at(shown.last)?.checked_add(self.page_size.bytes() - 1)?;
        VmRange::from_bounds(at(shown.first)?, last, self.page_size).ok()
    }

    /// Returns the bytes of the host's memory that a use begins with.
    pub(super) fn offset_of(&self, shown: &Use) -> u64 {
        self.page_size.addr(shown.begins + shown.first)
    }

    /// Finds a place that keeps exactly these bytes out of guests.
    pub(super) fn kept(&self, backing: HostBacking, len: u64) -> Option<u64> {
        let (page, count) = self.pages(backing, len);
        if page > PAGE_MASK {
            return None;
        }
        (0..self.layers).map(|layer| place(layer, page)).find(|&place| {
            self.uses.find(place).is_some_and(|vma| {
                let number = SlotNumber::new(vma.attrs().user_bits() as u32);
                number == SlotNumber::NOBODY && vma.start() == place && vma.page_count() == count
            })
        })
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.slots.check()?;
        self.uses.check()?;
        let mut findable = 0;
        for slot in self.slots() {
            let Some(place) = self.place(slot.number()) else { continue };
            findable += 1;
            let Some(vma) = self.uses.find(place) else { return Err("a use is missing") };
            let matches = with_state(vma.attrs(), RegionState::empty())
                == with_state(slot.region().attrs(), RegionState::empty());
            if vma.start() != place || vma.page_count() != slot.range().page_count() || !matches {
                return Err("a use differs from its slot");
            }
        }
        let nobody = u64::from(SlotNumber::NOBODY.get());
        let is_slots = |vma: &Vma<'_, _>| vma.attrs().user_bits() & u64::from(u32::MAX) != nobody;
        if self.uses.iter().filter(is_slots).count() != findable {
            return Err("a use has no slot");
        }
        let top = self.uses.iter().next_back().map_or(0, |vma| (vma.start() >> PAGE_BITS) + 1);
        if top == u64::from(self.layers) { Ok(()) } else { Err("layers are counted wrong") }
    }

    fn place(&self, number: SlotNumber) -> Option<u64> {
        match &self.slots.find(number.get().into())?.data().0 {
            Content::Slot(entry) => entry.place,
            Content::Region | Content::Use => None,
        }
    }

    fn layer(&self, layer: u32) -> Vmas<'_, GuestData<D>> {
        self.uses.overlapping(place(layer, 0), 1 << PAGE_BITS)
    }

    /// Returns the first page of the memory, and the number of pages that `len` bytes touch.
    fn pages(&self, backing: HostBacking, len: u64) -> (u64, u64) {
        let offset = backing.offset().unwrap_or(0);
        if len == 0 {
            return (self.page_size.page(offset), 0);
        }
        let last = offset.saturating_add(len - 1);
        (self.page_size.page(offset), self.page_size.page(last) - self.page_size.page(offset) + 1)
    }
}

/// A part of a slot that shows what was asked for, in pages.
pub(super) struct Use {
    pub(super) number: SlotNumber,
    /// From the beginning of the slot.
    first: u64,
    last: u64,
    /// The page of the host's memory that the slot begins with.
    begins: u64,
}

impl Use {
    pub(super) fn slot(&self) -> SlotNumber {
        self.number
    }
}

fn place(layer: u32, page: u64) -> u64 {
    u64::from(layer) << PAGE_BITS | page
}

fn same_object(one: Backing, other: Backing) -> bool {
    match (one, other) {
        (Backing::Object { id: one, .. }, Backing::Object { id: other, .. }) => one == other,
        _ => false,
    }
}

fn as_slot<'a, D>(vma: &Vma<'a, GuestData<D>>) -> Option<Slot<'a, D>> {
    match &vma.data().0 {
        Content::Slot(entry) => {
            Some(Slot::new(SlotNumber::new(vma.start() as u32), vma.attrs(), entry))
        }
        Content::Region | Content::Use => None,
    }
}

/// Returns the attributes of a new slot with this number.
pub(super) const fn numbered(attrs: Attrs, new: &NewSlot) -> Attrs {
    with_slot(attrs, new.number)
}
