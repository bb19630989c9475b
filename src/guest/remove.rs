//! Removing memory slots, one or all.

use super::Guest;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::region::slot_of;
use super::slot::{RemovedSlot, SlotNumber};
use crate::node::NodeStore;
use crate::range::{PageRange, VmRange};
use crate::vm_map::Updater;

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Removes a memory slot, all of it, and returns what it was, with the hypervisor's data.
    ///
    /// O(log n + regions of the slot). Needs no node. It stays in the guest's books until another
    /// slot goes or comes, so that the same slot may come again with fewer changes.
    /// Hooks: `prepare` and `on_unmap` for each region, then `flush_begin`. With an update of the
    /// caller's, the pages must not be used otherwise before it is finished.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSlot`]; by way of [`Refusal::Map`], the error of `prepare`.
    pub fn remove_slot<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        number: SlotNumber,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let start = self.books.numbers.start(number).ok_or(Refusal::NoSlot)?;
        let first = self.regions.find_again(start).ok_or(Refusal::NoSlot)?;
        let range = Self::slot_with(number, &first).ok_or(Refusal::NoSlot)?.range();
        self.remove_known(range, update)
    }

    /// Removes the slot over exactly this range.
    fn remove_known<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        range: VmRange,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let before = update.removed();
            regions.unmap_found(range, update).map_err(Refusal::Map)?;
            *changes += 1;
            let NodeStore { free, removed, .. } = &mut update.owed.nodes;
            let slot = removed.data_from(before).find_map(|(_, data)| data.take_slot());
            let slot = slot.ok_or(Refusal::NoSlot)?;
            books.leave(slot.in_books(), range.start(), free);
            Ok(RemovedSlot::new(range, slot))
        })
    }

    /// Removes the memory slot whose range is exactly `len` bytes from `gpa`. Else as
    /// [`remove_slot`](Self::remove_slot).
    ///
    /// # Errors
    ///
    /// Those of [`remove_slot`](Self::remove_slot); [`Refusal::NotMapped`], or
    /// [`Refusal::NotWhole`] with the slot of which the range is only a part, or which is only a
    /// part of the range.
    pub fn remove_range<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let first = self.regions.find_again(gpa).filter(|_| len > 0);
        let first = first.or_else(|| self.regions.overlapping(gpa, len).next());
        let first = first.ok_or(Refusal::NotMapped)?;
        let number = slot_of(first.attrs());
        let slot = Self::slot_with(number, &first).or_else(|| self.slot(number));
        let range = slot.ok_or(Refusal::NoSlot)?.range();
        if range.start() == gpa && range.len() == Some(len) {
            self.remove_known(range, update)
        } else {
            Err(Refusal::NotWhole(number))
        }
    }

    /// Removes all slots, and hands the data of each to `take`, by address: under the lock, if
    /// there is one. What is kept from guests stays so.
    ///
    /// O(n log n). Needs no node. Hooks: `prepare` and `on_unmap` for each region, then
    /// `flush_begin` if there was any.
    ///
    /// # Errors
    ///
    /// The error of `prepare`; then nothing has changed.
    pub fn clear<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        update: &mut U,
        mut take: impl FnMut(RemovedSlot<D>),
    ) -> Result<(), U::Error> {
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let before = update.removed();
            regions.clear(update)?;
            *changes += 1;
            let NodeStore { free, removed, .. } = &mut update.owed.nodes;
            for (start, data) in removed.data_from(before) {
                let Some(slot) = data.take_slot() else { continue };
                let pages = PageRange::new(start, start.saturating_add(slot.page_count));
                let range = VmRange::from_pages(pages, regions.page_size());
                books.leave(slot.in_books(), range.start(), free);
                take(RemovedSlot::new(range, slot));
            }
            books.settle(free);
            Ok(())
        })
    }
}
