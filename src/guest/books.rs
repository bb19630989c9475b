//! The books that a guest keeps beside its regions: slots, by what they show and by number.

use super::backing::HostBacking;
use super::data::{Content, GuestAlloc, GuestData, SlotEntry};
use super::numbers::Numbers;
use super::refusal::Refusal;
use super::region::{Region, RegionState, slot_of, with_state};
use super::slot::{Slot, SlotNumber};
use super::vacancy::Vacancy;
use crate::error::Error;
use crate::node::Preallocated;
use crate::range::{PageSize, VmRange};
use crate::vm_map::{Mark, VmMap, Vmas};
use crate::vma::{Attrs, Backing, Vma, VmaNode};

/// How many slots at most can show the same byte of the host's memory, or the same offset in files.
pub const MAX_LAYERS: u32 = 4095;

/// The bits of a place that are the page; the layer is above.
const PAGE_BITS: u32 = 52;
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;

/// The nodes of a guest's maps.
pub(super) type Nodes<D, A> = Preallocated<VmaNode<GuestData<D>>, A>;

/// Slots. Positions of both maps are plain numbers.
pub(super) struct Books<D, A: GuestAlloc<D>> {
    /// By place: of a slot that is found by what it shows, the layer and the page; of others their
    /// number, above all layers. And what is kept from the guest.
    pub(super) slots: VmMap<GuestData<D>, A>,
    /// The places of slots, by number.
    pub(super) numbers: Numbers<D, A>,
    /// The slot that was removed last, if its entries are still in both maps.
    pub(super) vacant: Option<Vacancy>,
    /// Layers from here on are empty.
    layers: u32,
    /// The number of slots, and of ranges kept from the guest, that lie in layers.
    findable: usize,
    page_size: PageSize,
}

/// A slot that can be entered: nothing is in its way.
pub(super) struct NewSlot {
    pub(super) number: SlotNumber,
    pub(super) place: u64,
    /// The positions that it takes.
    pub(super) count: u64,
    /// The nodes that it takes in the books.
    pub(super) nodes: usize,
}

impl<D, A: GuestAlloc<D>> Books<D, A> {
    /// Takes two nodes.
    pub(super) fn new(page_size: PageSize, alloc: A) -> Result<Self, Error> {
        let last = place(MAX_LAYERS, SlotNumber::MAX.get().into());
        let slots = VmMap::new(0..=last, PageSize::new(1)?, alloc.clone())?;
        let numbers = Numbers::new(alloc)?;
        Ok(Self { slots, numbers, vacant: None, layers: 0, findable: 0, page_size })
    }

    pub(super) fn slot_count(&self) -> usize {
        self.numbers.count().saturating_sub(usize::from(self.vacant.is_some()))
    }

    pub(super) fn slot(&self, number: SlotNumber) -> Option<Slot<'_, D>> {
        as_slot(self.slots.find(self.numbers.place(number)?)?)
    }

    /// Returns the slot with this number and its place, where [`move_out`](Self::move_out) finds it
    /// without a walk.
    pub(super) fn slot_and_place(&self, number: SlotNumber) -> Option<(Slot<'_, D>, u64)> {
        let place = self.numbers.place(number)?;
        Some((as_slot(self.slots.find_again(place)?)?, place))
    }

    /// Returns the slot of a region as [`slot_and_place`](Self::slot_and_place) does, in O(1) if
    /// the region knows it.
    pub(super) fn slot_of(&self, region: &Vma<'_, GuestData<D>>) -> Option<(Slot<'_, D>, u64)> {
        if let Content::Region(Some(mark)) = &region.data().0
            && let Some(vma) = self.slots.find_marked(mark)
            && let Some(slot) = as_slot(vma)
        {
            return Some((slot, vma.start()));
        }
        self.slot_and_place(slot_of(region.attrs()))
    }

    /// Returns a mark of the slot at a place, for its region to keep.
    pub(super) fn mark(&self, place: u64) -> Option<Mark> {
        self.slots.mark(place)
    }

    pub(super) fn slots(&self) -> impl DoubleEndedIterator<Item = Slot<'_, D>> + Clone {
        self.numbers.places().filter_map(|place| as_slot(self.slots.find(place)?))
    }

    pub(super) fn update_data<R>(
        &mut self,
        number: SlotNumber,
        change: impl FnOnce(&mut D) -> R,
    ) -> Option<R> {
        let change = |data: &mut GuestData<D>| match &mut data.0 {
            Content::Slot(entry) => Some(change(&mut entry.data)),
            _ => None,
        };
        self.slots.edit(self.numbers.place(number)?, |attrs| attrs, change).flatten()
    }

    /// Decides on the number and the layer of a new slot. Nodes of a slot that was removed go to
    /// `nodes`, unless this one takes its place.
    pub(super) fn plan<E: From<Error>>(
        &mut self,
        number: Option<SlotNumber>,
        backing: HostBacking,
        len: u64,
        nodes: &mut Nodes<D, A>,
    ) -> Result<NewSlot, Refusal<E>> {
        if let Some(new) = self.plan_return(number, backing, len) {
            return Ok(new);
        }
        self.settle(nodes);
        let number = match number {
            Some(number) if self.numbers.is_free(number) => number,
            Some(_) => return Err(Refusal::NumberTaken),
            None => self.numbers.lowest_free().ok_or(Refusal::NumberTaken)?,
        };
        let nodes = 1 + self.numbers.nodes_for(number);
        if !backing.is_findable() {
            let place = place(MAX_LAYERS, number.get().into());
            return Ok(NewSlot { number, place, count: 1, nodes });
        }
        let place = self.plan_use(backing, len);
        // Where the only layer is free, nothing is kept.
        let is_free = self.layers <= 1 && place.as_ref().is_ok_and(|place| place >> PAGE_BITS == 0);
        let is_kept = |shown: Use| shown.slot() == SlotNumber::NOBODY;
        if !is_free && self.uses(backing, len).any(is_kept) {
            return Err(Refusal::HostMemory);
        }
        Ok(NewSlot { number, place: place?, count: self.pages(backing, len).1, nodes })
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
            .find(|&place| self.slots.is_free(place, count))
            .ok_or(Refusal::TooManyAliases)
    }

    /// Enters a slot. Takes a node, and one more if the number is the first of its chunk.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], with the data, if the nodes are not there.
    pub(super) fn enter(
        &mut self,
        new: NewSlot,
        attrs: Attrs,
        entry: SlotEntry<D>,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(), (Error, GuestData<D>)> {
        let entry = GuestData(Content::Slot(entry));
        if self.is_return(&new) {
            return self.move_in(attrs, entry).map_err(|data| (Error::OutOfMemory, data));
        }
        let NewSlot { number, place, count, .. } = new;
        self.enter_at(place, count, attrs, entry, nodes)
            .map_err(|data| (Error::OutOfMemory, data))?;
        if let Err(error) = self.numbers.enter(number, place, nodes)
            && let Some(data) = self.remove_at(place, nodes)
        {
            return Err((error, data));
        }
        Ok(())
    }

    /// Keeps what is at a place that is free out of the guest. Takes a node.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if it is not there.
    pub(super) fn keep(
        &mut self,
        place: u64,
        count: u64,
        attrs: Attrs,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(), Error> {
        let entered = self.enter_at(place, count, attrs, GuestData::KEPT, nodes);
        entered.map_err(|_| Error::OutOfMemory)
    }

    fn enter_at(
        &mut self,
        place: u64,
        count: u64,
        attrs: Attrs,
        data: GuestData<D>,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(), GuestData<D>> {
        self.slots.enter(place, count, attrs, data, nodes)?;
        let layer = layer_of(place);
        if layer < MAX_LAYERS {
            self.findable += 1;
            self.layers = self.layers.max(layer + 1);
        }
        Ok(())
    }

    /// Removes the slot, or what is kept from the guest, at a place.
    pub(super) fn remove_at(
        &mut self,
        place: u64,
        nodes: &mut Nodes<D, A>,
    ) -> Option<GuestData<D>> {
        let data = self.slots.take(place, nodes)?;
        if layer_of(place) < MAX_LAYERS {
            self.findable -= 1;
            if self.findable == 0 {
                self.layers = 0;
            }
            while self.layers > 1 && self.layer(self.layers - 1).next().is_none() {
                self.layers -= 1;
            }
        }
        Some(data)
    }

    /// Moves a slot and changes its state, as [`Guest::modify_slot`](super::Guest::modify_slot) has
    /// done with its regions. Needs no node, so nothing can fail.
    pub(super) fn modify(
        &mut self,
        number: SlotNumber,
        range: VmRange,
        change: impl Fn(RegionState) -> RegionState,
    ) {
        let Some(place) = self.numbers.place(number) else { return };
        let attrs = |attrs| with_state(attrs, change(Region::new(range, attrs).state()));
        self.slots.edit(place, attrs, |data| {
            if let Content::Slot(entry) = &mut data.0 {
                entry.range = range;
            }
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
            .flat_map(move |layer| self.slots.overlapping(place(layer, page), count))
            .filter(move |vma| is_same(vma.attrs()) && !matches!(vma.data().0, Content::Vacant))
            .map(move |vma| {
                let slot = as_slot(vma).map(|slot| (slot.number(), slot.range()));
                // In pages from the beginning of the slot.
                let begins = vma.start() & PAGE_MASK;
                let first = page.max(begins) - begins;
                let last = (page + (count - 1)).min(begins + (vma.page_count() - 1)) - begins;
                Use { slot, first, last, begins }
            })
    }

    /// Returns the range of guest-physical addresses of a use.
    pub(super) fn range_of(&self, shown: &Use) -> Option<VmRange> {
        let start = shown.slot?.1.start();
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
            self.slots.find(place).is_some_and(|vma| {
                let is_kept = matches!(vma.data().0, Content::Kept);
                is_kept && vma.start() == place && vma.page_count() == count
            })
        })
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.slots.check()?;
        self.numbers.check()?;
        let (mut slots, mut findable, mut top) = (0, 0, 0);
        for vma in &self.slots {
            let layer = layer_of(vma.start());
            if layer < MAX_LAYERS {
                findable += 1;
                top = layer + 1;
            }
            let Some(slot) = as_slot(vma) else { continue };
            slots += 1;
            if self.numbers.place(slot.number()) != Some(vma.start()) {
                return Err("a slot is not found by its number");
            }
            let (backing, len) = (slot.region().backing(), slot.range().len());
            let (page, count) = self.pages(backing, len.unwrap_or(u64::MAX));
            let is_right = if backing.is_findable() {
                vma.start() & PAGE_MASK == page && vma.page_count() == count && layer < MAX_LAYERS
            } else {
                layer == MAX_LAYERS && vma.page_count() == 1
            };
            if !is_right {
                return Err("a slot is not where it is looked for");
            }
        }
        self.check_vacant()?;
        if slots != self.slot_count() {
            return Err("a number has no slot");
        }
        if (findable, top) == (self.findable, self.layers) {
            Ok(())
        } else {
            Err("layers are counted wrong")
        }
    }

    fn layer(&self, layer: u32) -> Vmas<'_, GuestData<D>> {
        self.slots.overlapping(place(layer, 0), 1 << PAGE_BITS)
    }

    /// Returns the first page of the memory, and the number of pages that `len` bytes touch.
    pub(super) fn pages(&self, backing: HostBacking, len: u64) -> (u64, u64) {
        let offset = backing.offset().unwrap_or(0);
        if len == 0 {
            return (self.page_size.page(offset), 0);
        }
        let last = offset.saturating_add(len - 1);
        (self.page_size.page(offset), self.page_size.page(last) - self.page_size.page(offset) + 1)
    }
}

/// A part of a slot that shows what was asked for, in pages; or of what is kept from the guest.
pub(super) struct Use {
    slot: Option<(SlotNumber, VmRange)>,
    /// From the beginning of the slot.
    first: u64,
    last: u64,
    /// The page of the host's memory that the slot begins with.
    begins: u64,
}

impl Use {
    pub(super) fn slot(&self) -> SlotNumber {
        self.slot.map_or(SlotNumber::NOBODY, |(number, _)| number)
    }
}

fn place(layer: u32, page: u64) -> u64 {
    u64::from(layer) << PAGE_BITS | page
}

pub(super) fn layer_of(place: u64) -> u32 {
    (place >> PAGE_BITS) as u32
}

pub(super) fn page_of(place: u64) -> u64 {
    place & PAGE_MASK
}

fn same_object(one: Backing, other: Backing) -> bool {
    match (one, other) {
        (Backing::Object { id: one, .. }, Backing::Object { id: other, .. }) => one == other,
        _ => false,
    }
}

fn as_slot<D>(vma: Vma<'_, GuestData<D>>) -> Option<Slot<'_, D>> {
    match &vma.data().0 {
        Content::Slot(entry) => Some(Slot::new(vma.attrs(), entry)),
        _ => None,
    }
}
