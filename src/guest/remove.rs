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
    /// O(log n + regions of the slot). Needs no node. Hooks: `prepare` and `on_unmap` for each
    /// region, then `flush_begin`. With an update of the caller's, the pages must not be used
    /// otherwise before it is finished.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSlot`]; by way of [`Refusal::Map`], the error of `prepare`.
    pub fn remove_slot<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        number: SlotNumber,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let region = self.books.slot_to_remove(number).ok_or(Refusal::NoSlot)?.region();
        self.remove_known(number, region, update)
    }

    /// Removes the slot with this number, which is that region.
    fn remove_known<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        number: SlotNumber,
        region: Region,
        update: &mut U,
    ) -> Result<RemovedSlot<D>, Refusal<U::Error>> {
        let range = region.range();
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let len = range.len().unwrap_or(u64::MAX);
            regions.unmap(range.start(), len, update).map_err(Refusal::Map)?;
            *changes += 1;
            let data = books.remove(number, &mut update.owed.nodes.free).ok_or(Refusal::NoSlot)?;
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
        let first = self.regions(gpa, len).next().ok_or(Refusal::NotMapped)?;
        let number = first.slot();
        let region = self.books.slot_to_remove(number).ok_or(Refusal::NoSlot)?.region();
        let range = region.range();
        if range.start() == gpa && range.len() == Some(len) {
            self.remove_known(number, region, update)
        } else {
            Err(Refusal::NotWhole(number))
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
            loop {
                let first = books.slots().next().map(|slot| (slot.number(), slot.region()));
                let Some((number, region)) = first else { break };
                let Some(data) = books.remove(number, &mut update.owed.nodes.free) else { break };
                take(RemovedSlot { region, data });
            }
            Ok(())
        })
    }
}
