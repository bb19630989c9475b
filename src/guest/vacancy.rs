//! The slot that was removed last, whose place in the books is kept for it.
//!
//! A slot that goes mostly comes again: a guest turns the decoding of a PCI device's registers off,
//! writes an address or none, and turns it on; firmware shows its memory and hides it, over and
//! over. So what the books say of a slot that is removed stays, without the slot: the entry by what
//! it shows, and its number. A slot that is added next with the same number, and shows the same,
//! moves in again, and no tree but that of the regions changes. Any other change of the books takes
//! the entries out first, and has their nodes before it asks for others.

use super::backing::HostBacking;
use super::books::{Books, MAX_LAYERS, NewSlot, Nodes, layer_of, page_of};
use super::data::{Content, GuestAlloc, GuestData};
use super::region::slot_of;
use super::slot::SlotNumber;
use crate::vma::Attrs;

/// The entries of a slot that has gone.
#[derive(Clone, Copy)]
pub(super) struct Vacancy {
    pub(super) number: SlotNumber,
    pub(super) place: u64,
    /// The positions that it takes.
    pub(super) count: u64,
}

impl<D, A: GuestAlloc<D>> Books<D, A> {
    /// Returns the plan for a slot that moves into what is vacant, if that is where it would go.
    pub(super) fn plan_return(
        &mut self,
        number: Option<SlotNumber>,
        backing: HostBacking,
        len: u64,
    ) -> Option<NewSlot> {
        let Vacancy { number: left, place, count } = self.vacant?;
        let fits = if backing.is_findable() {
            layer_of(place) < MAX_LAYERS && (page_of(place), count) == self.pages(backing, len)
        } else {
            layer_of(place) == MAX_LAYERS
        };
        // The number counts as taken, so the lowest free one is another.
        let is_asked_for = match number {
            Some(number) => number == left,
            None => fits && self.numbers.lowest_free().is_none_or(|lowest| left < lowest),
        };
        (fits && is_asked_for).then_some(NewSlot { number: left, place, count, nodes: 0 })
    }

    /// Returns `true` if this is the plan for what is vacant.
    pub(super) fn is_return(&self, new: &NewSlot) -> bool {
        self.vacant.is_some_and(|vacant| vacant.number == new.number)
    }

    /// Lets a slot move into what is vacant.
    ///
    /// # Errors
    ///
    /// Returns the data if nothing is vacant there.
    pub(super) fn move_in(
        &mut self,
        attrs: Attrs,
        entry: GuestData<D>,
    ) -> Result<(), GuestData<D>> {
        let Some(place) = self.vacant.map(|vacant| vacant.place) else { return Err(entry) };
        if self.slots.find_again(place).is_none() {
            return Err(entry);
        }
        self.slots.edit(place, |_| attrs, |content| *content = entry);
        self.vacant = None;
        Ok(())
    }

    /// Takes the data of the slot at a place, which is vacant from now on. What was vacant before
    /// is taken out, and all is with the last slot: a guest without slots keeps no nodes.
    pub(super) fn move_out(&mut self, place: u64, nodes: &mut Nodes<D, A>) -> Option<D> {
        let vma = self.slots.find_again(place)?;
        let (number, count) = (slot_of(vma.attrs()), vma.page_count());
        let take = |content: &mut GuestData<D>| match content.0 {
            Content::Slot(_) => core::mem::replace(&mut content.0, Content::Vacant).into_slot(),
            _ => None,
        };
        let entry = self.slots.edit(place, |attrs| attrs, take)??;
        if let Some(before) = self.vacant.replace(Vacancy { number, place, count }) {
            self.take_out(before, nodes);
        }
        if self.slot_count() == 0 {
            self.settle(nodes);
        }
        Some(entry.data)
    }

    /// Takes the entries of the slot that was removed last out of the books.
    #[inline]
    pub(super) fn settle(&mut self, nodes: &mut Nodes<D, A>) {
        if let Some(vacant) = self.vacant.take() {
            self.take_out(vacant, nodes);
        }
    }

    #[inline(never)]
    fn take_out(&mut self, vacant: Vacancy, nodes: &mut Nodes<D, A>) {
        self.numbers.remove(vacant.number, nodes);
        self.remove_at(vacant.place, nodes);
    }

    /// Checks that what is vacant is where it is looked for.
    pub(super) fn check_vacant(&self) -> Result<(), &'static str> {
        let is_vacant = |place| {
            let vma = self.slots.find(place)?;
            matches!(vma.data().0, Content::Vacant).then(|| (vma.start(), vma.page_count()))
        };
        let mut vacant = self.slots.iter().filter(|vma| matches!(vma.data().0, Content::Vacant));
        let found = vacant.next().map(|vma| vma.start());
        if found != self.vacant.map(|vacant| vacant.place) || vacant.next().is_some() {
            return Err("an entry is vacant that nobody has left");
        }
        let Some(Vacancy { number, place, count }) = self.vacant else { return Ok(()) };
        if is_vacant(place) == Some((place, count)) && self.numbers.place(number) == Some(place) {
            Ok(())
        } else {
            Err("what is vacant is not where it is looked for")
        }
    }
}
