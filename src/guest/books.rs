//! The books that a guest keeps beside its regions: where slots begin, by number, and what they
//! show of the host's memory and of files.

use super::backing::HostBacking;
use super::data::{GuestAlloc, GuestData};
use super::numbers::Numbers;
use super::refusal::Refusal;
use super::shown::{Range, Shown};
use super::slot::SlotNumber;
use crate::error::Error;
use crate::node::Preallocated;
use crate::range::PageSize;
use crate::vma::VmaNode;

/// How many slots at most can show the same byte of the host's memory, or the same offset in files.
pub const MAX_LAYERS: u32 = 4095;

/// The bits of a place that are the page; the layer is above.
const PAGE_BITS: u32 = 52;
const PAGE_MASK: u64 = (1 << PAGE_BITS) - 1;

/// The nodes of a guest's maps.
pub(super) type Nodes<D, A> = Preallocated<VmaNode<GuestData<D>>, A>;

/// All that is known of slots beside their regions.
pub(super) struct Books<D, A: GuestAlloc<D>> {
    pub(super) numbers: Numbers<D, A>,
    /// Ranges that slots show whose backing is findable, and those that are kept from the guest.
    pub(super) shown: Shown<D, A>,
    /// The ranges that are kept from the guest.
    kept: usize,
    /// The slot that was removed last, and where it began, if it is still in the books.
    left: Option<(Entry, u64)>,
    page_size: PageSize,
}

/// A slot, as the books know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: SlotNumber,
    /// The layer and the page of what it shows, and the number of pages, if it is found by that.
    pub(super) place: Option<(u64, u64)>,
}

impl<D, A: GuestAlloc<D>> Books<D, A> {
    /// Takes two nodes.
    pub(super) fn new(page_size: PageSize, alloc: A) -> Result<Self, Error> {
        let shown = Shown::new(place(MAX_LAYERS - 1, PAGE_MASK), alloc.clone())?;
        Ok(Self { numbers: Numbers::new(alloc)?, shown, kept: 0, left: None, page_size })
    }

    pub(super) fn slot_count(&self) -> usize {
        self.numbers.count().saturating_sub(usize::from(self.left.is_some()))
    }

    /// Decides on the number and the layer of a new slot, and returns the number of nodes that it
    /// takes. Nodes of a slot that was removed go to `nodes`, unless this one is entered as it was.
    pub(super) fn plan<E: From<Error>>(
        &mut self,
        number: Option<SlotNumber>,
        backing: HostBacking,
        len: u64,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(Entry, usize), Refusal<E>> {
        if let Some((left, _)) = self.left
            && self.is_entered(left, number, backing, len)
        {
            return Ok((left, 0));
        }
        self.settle(nodes);
        let number = match number {
            Some(number) if self.numbers.is_free(number) => number,
            Some(_) => return Err(Refusal::NumberTaken),
            None => self.numbers.lowest_free().ok_or(Refusal::NumberTaken)?,
        };
        let nodes = self.numbers.nodes_for(number);
        if !backing.is_findable() {
            return Ok((Entry { number, place: None }, nodes));
        }
        let is_kept = |shown: Range| shown.number == SlotNumber::NOBODY;
        if self.kept > 0 && is_host(backing) && self.shown(backing, len).any(is_kept) {
            return Err(Refusal::HostMemory);
        }
        let place = self.plan_use(backing, len)?;
        let nodes = nodes + self.shown.nodes_for(place);
        Ok((Entry { number, place: Some((place, self.pages(backing, len).1)) }, nodes))
    }

    /// Returns `true` if a new slot would be entered as the one that was removed last is.
    ///
    /// A slot that goes mostly comes again: a guest turns the decoding of a PCI device's registers
    /// off, writes an address or none, and turns it on; firmware shows its memory and hides it,
    /// over and over. So a slot that is removed stays in the books. Any other change of them takes
    /// it out first, and has its nodes before it asks for others.
    fn is_entered(
        &mut self,
        left: Entry,
        number: Option<SlotNumber>,
        backing: HostBacking,
        len: u64,
    ) -> bool {
        let place = left.place.map(|(place, count)| (place & PAGE_MASK, count));
        place == backing.is_findable().then(|| self.pages(backing, len))
            && match number {
                Some(number) => number == left.number,
                // Its own counts as taken, so the lowest free one is another.
                None => self.numbers.lowest_free().is_none_or(|lowest| left.number < lowest),
            }
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
            .find(|&place| self.shown.is_free(place, count))
            .ok_or(Refusal::TooManyAliases)
    }

    /// Enters a slot that begins at `start`, as it was planned.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if the nodes are not there.
    pub(super) fn enter(
        &mut self,
        Entry { number, place }: Entry,
        start: u64,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(), Error> {
        if let Some((_, before)) = self.left.take() {
            if before != start {
                self.numbers.relocate(number, start);
            }
            return Ok(());
        }
        self.numbers.enter(number, start, nodes)?;
        let Some((place, count)) = place else { return Ok(()) };
        let entered = self.shown.enter(Range { start: place, count, number }, nodes);
        if entered.is_err() {
            self.numbers.remove(number, nodes);
        }
        entered
    }

    /// Notes that a slot has gone, which began at `start`. The one that went before it is taken
    /// out, and all are with the last one: a guest without slots keeps no nodes.
    pub(super) fn leave(&mut self, entry: Entry, start: u64, nodes: &mut Nodes<D, A>) {
        self.settle(nodes);
        self.left = Some((entry, start));
        if self.slot_count() == 0 {
            self.settle(nodes);
        }
    }

    /// Takes the slot that was removed last out of the books.
    pub(super) fn settle(&mut self, nodes: &mut Nodes<D, A>) {
        let Some((Entry { number, place }, _)) = self.left.take() else { return };
        self.numbers.remove(number, nodes);
        if let Some((place, _)) = place {
            self.shown.remove(place, nodes);
        }
    }

    /// Keeps what is at a place that is free out of the guest. Takes at most a node.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`] if it is not there.
    pub(super) fn keep(
        &mut self,
        place: u64,
        count: u64,
        nodes: &mut Nodes<D, A>,
    ) -> Result<(), Error> {
        self.shown.enter(Range { start: place, count, number: SlotNumber::NOBODY }, nodes)?;
        self.kept += 1;
        Ok(())
    }

    /// Ends what [`keep`](Self::keep) began.
    pub(super) fn leave_to_guest(&mut self, place: u64, nodes: &mut Nodes<D, A>) {
        if self.shown.remove(place, nodes).is_some() {
            self.kept -= 1;
        }
    }

    /// Iterates over what is entered of `len` bytes of any backing from the offset of this one; in
    /// no order.
    pub(super) fn shown(
        &self,
        backing: HostBacking,
        len: u64,
    ) -> impl Iterator<Item = Range> + use<'_, D, A> {
        let (page, count) = self.pages(backing, len);
        // Nothing is entered beyond what a place can hold.
        let count = count.min((PAGE_MASK + 1).saturating_sub(page));
        let top = self.shown.last().filter(|_| count > 0);
        let layers = top.map_or(0, |range| layer_of(range.start) + 1);
        (0..layers).flat_map(move |layer| self.shown.overlapping(place(layer, page), count))
    }

    /// Finds a place that keeps exactly these bytes out of guests.
    pub(super) fn kept(&self, backing: HostBacking, len: u64) -> Option<u64> {
        let (page, count) = self.pages(backing, len);
        let is_kept = |range: &Range| {
            let found = (range.number, range.start & PAGE_MASK, range.count);
            found == (SlotNumber::NOBODY, page, count)
        };
        self.shown(backing, len).find(is_kept).map(|range| range.start)
    }

    /// Checks the books alone.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        self.numbers.check()?;
        self.shown.check()?;
        let is_kept = |range: &Range| range.number == SlotNumber::NOBODY;
        if self.shown.iter().filter(is_kept).count() != self.kept {
            return Err("ranges that are kept are counted wrong");
        }
        match self.left {
            Some((left, start)) => self.check_entry(left, start),
            None => Ok(()),
        }
    }

    /// Checks that a slot is where it is looked for.
    pub(super) fn check_entry(&self, entry: Entry, start: u64) -> Result<(), &'static str> {
        let Entry { number, place } = entry;
        if self.numbers.start(number) != Some(start) {
            return Err("a slot is not found by its number");
        }
        let Some((place, count)) = place else { return Ok(()) };
        let found = self.shown.overlapping(place, 1).next();
        match found.map(|range| (range.start, range.count, range.number)) {
            Some(found) if found == (place, count, number) => Ok(()),
            _ => Err("a slot is not where it is looked for"),
        }
    }

    /// Returns the number of slots that are entered by what they show.
    pub(super) fn shown_count(&self) -> usize {
        let left = self.left.is_some_and(|(left, _)| left.place.is_some());
        self.shown.count().saturating_sub(self.kept).saturating_sub(usize::from(left))
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

fn is_host(backing: HostBacking) -> bool {
    matches!(backing, HostBacking::Host { .. })
}

fn place(layer: u32, page: u64) -> u64 {
    u64::from(layer) << PAGE_BITS | page
}

fn layer_of(place: u64) -> u32 {
    (place >> PAGE_BITS) as u32
}

/// Returns the page that a place stands for.
pub(super) fn page_of(place: u64) -> u64 {
    place & PAGE_MASK
}
