//! Removing memory slots, one or all.

use super::Guest;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::region::Region;
use super::slot::{RemovedSlot, SlotNumber};
use crate::vm_map::Updater;

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Removes a memory slot, all of it, and returns what it was, with the hypervisor's data.
    ///
    /// O(log n + regions of the slot). Needs no node. Its place in the guest's books is kept for it
    /// until another slot goes or comes, so that the same slot may come again with fewer changes.
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
        let (slot, place) = self.books.slot_and_place(number).ok_or(Refusal::NoSlot)?;
        let region = slot.region();
        self.remove_known(region, place, update)
    }

    /// Removes the slot at this place of the books, which is that region.
    fn remove_known<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        region: Region,
        place: u64,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let range = region.range();
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let len = range.len().unwrap_or(u64::MAX);
            if !regions.unmap_whole(range.start(), len, update).map_err(Refusal::Map)? {
                regions.unmap(range.start(), len, update).map_err(Refusal::Map)?;
            }
            *changes += 1;
            let nodes = &mut update.owed.nodes.free;
            let data = books.move_out(place, nodes).ok_or(Refusal::NoSlot)?;
            Ok(RemovedSlot { region, data })
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
        let (slot, place) = self.books.slot_of(&first).ok_or(Refusal::NoSlot)?;
        let region = slot.region();
        let range = region.range();
        if range.start() == gpa && range.len() == Some(len) {
            self.remove_known(region, place, update)
        } else {
            Err(Refusal::NotWhole(region.slot()))
        }
    }

    /// Removes all slots, and hands the data of each to `take`, by number: under the lock, if there
    /// is one. What is kept from guests stays so.
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
            regions.clear(update)?;
            *changes += 1;
            let nodes = &mut update.owed.nodes.free;
            loop {
                let first = books.slots().next().map(|slot| slot.region());
                let Some(region) = first else { break };
                let Some((_, place)) = books.slot_and_place(region.slot()) else { break };
                let Some(data) = books.move_out(place, nodes) else { break };
                take(RemovedSlot { region, data });
            }
            books.settle(nodes);
            Ok(())
        })
    }
}
