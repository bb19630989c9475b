//! The other direction: what the host's memory is used for.

use super::Guest;
use super::backing::HostBacking;
use super::books::page_of;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::slot::SlotNumber;
#[cfg(doc)]
use crate::error::Error;
use crate::range::VmRange;
use crate::vm_map::Updater;

/// A part of a slot that shows a range of the host's memory, or of a file.
///
/// ```
/// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
/// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
/// # let nodes = FixedPool::<GuestNode, 32>::new();
/// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
/// # let guest = AddrSpace::new(guest);
/// // The same 8 pages of the host, at two places of the guest.
/// let ram = SlotRequest::ram(0x1000, 0x8000, HostBacking::Host { addr: 0x5000 });
/// guest.add_slot(ram, &mut NoHooks)?;
/// guest.add_slot(ram.at(0x10_0000), &mut NoHooks)?;
/// // The host wants its page at 0x6000 back. Where is it to be unmapped?
/// let mut places: Vec<_> = guest.inspect(|guest| {
///     guest.host_uses(0x6000, 0x1000).map(|found| found.range().start()).collect()
/// });
/// places.sort();
/// assert_eq!(places, [0x2000, 0x10_1000]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostUse {
    slot: SlotNumber,
    range: VmRange,
    offset: u64,
}

impl HostUse {
    /// Returns the slot.
    pub fn slot(&self) -> SlotNumber {
        self.slot
    }

    /// Returns where the guest sees it.
    pub fn range(&self) -> VmRange {
        self.range
    }

    /// Returns the host's address, or the offset in the file, of the first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Iterates over the parts of slots that show any of `len` bytes of the host's memory from
    /// `addr`; in no order. Whole pages are given, even for parts of them.
    ///
    /// For a host that takes memory back, moves it, or wants to use it for itself. Slots count as
    /// they were added: blocks that are not plugged are in there too.
    ///
    /// O(k log n) and O(1) for each slot, where k is how many slots show the same memory.
    pub fn host_uses(&self, addr: u64, len: u64) -> impl Iterator<Item = HostUse> + use<'_, D, A> {
        self.uses_of(HostBacking::Host { addr }, len)
    }

    /// Iterates over the parts of slots that show any of `len` bytes of a file from `offset`; in no
    /// order. For files that are truncated. Else as [`host_uses`](Self::host_uses).
    pub fn file_uses(
        &self,
        file: u64,
        offset: u64,
        len: u64,
    ) -> impl Iterator<Item = HostUse> + use<'_, D, A> {
        self.uses_of(HostBacking::File { file, offset }, len)
    }

    fn uses_of(
        &self,
        backing: HostBacking,
        len: u64,
    ) -> impl Iterator<Item = HostUse> + use<'_, D, A> {
        let (page, count) = self.books.pages(backing, len);
        self.books.shown(backing, len).filter_map(move |shown| {
            let slot = self.slot(shown.number)?;
            if !slot.region().backing().is_of_same(backing) {
                return None;
            }
            // In pages from the beginning of the slot.
            let begins = page_of(shown.start);
            let first = page.max(begins) - begins;
            let last = (page + (count - 1)).min(begins + (shown.count - 1)) - begins;
            let (start, page_size) = (slot.range().start(), self.page_size());
            let at = |pages| start.checked_add(page_size.addr(pages));
            let end = at(last)?.checked_add(page_size.bytes() - 1)?;
            let range = VmRange::from_bounds(at(first)?, end, page_size).ok()?;
            Some(HostUse { slot: shown.number, range, offset: page_size.addr(begins + first) })
        })
    }

    /// Keeps `len` bytes of the host's memory from `addr` out of the guest: no slot may show any of
    /// them from now on. For the hypervisor's own code, data and page tables.
    ///
    /// O(k log n). Needs one node, of the guest's allocator. Calls no hook.
    ///
    /// # Errors
    ///
    /// [`Refusal::ShownBy`] if a slot shows some of it; [`Refusal::TooManyAliases`]; by way of
    /// [`Refusal::Map`]: [`Error::ZeroLength`], [`Error::Unaligned`], [`Error::OutOfRange`],
    /// [`Error::OutOfMemory`].
    ///
    /// ```
    /// use kvma::guest::Refusal;
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// // The hypervisor's own image. No slot may show it.
    /// guest.update(3, &mut NoHooks, |guest, update| {
    ///     guest.keep_from_guest(0x20_0000, 0x10_0000, update)
    /// })?;
    /// let ram = SlotRequest::ram(0, 0x40_0000, HostBacking::Host { addr: 0x10_0000 });
    /// assert_eq!(guest.add_slot(ram, &mut NoHooks), Err(Refusal::HostMemory));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_from_guest<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let range = VmRange::new(addr, len, self.page_size())?;
        let backing = HostBacking::Host { addr };
        if let Some(shown) = self.host_uses(addr, len).next() {
            return Err(Refusal::ShownBy(shown.slot()));
        }
        let Self { regions, books, .. } = self;
        update.run(regions, |regions, update| {
            update.check_alloc(regions.alloc())?;
            books.settle(&mut update.owed.nodes.free);
            let place = books.plan_use(backing, len)?;
            update.preallocate(1)?;
            let nodes = &mut update.owed.nodes.free;
            Ok(books.keep(place, range.page_count(), nodes)?)
        })
    }

    /// Ends what [`keep_from_guest`](Self::keep_from_guest) began with exactly these numbers.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotMapped`] if there was no such call, [`Error::ForeignNodes`] by way of
    /// [`Refusal::Map`].
    pub fn leave_to_guest<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        addr: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let _ = VmRange::new(addr, len, self.page_size())?;
        let place = self.books.kept(HostBacking::Host { addr }, len).ok_or(Refusal::NotMapped)?;
        let Self { regions, books, .. } = self;
        update.run(regions, |regions, update| {
            update.check_alloc(regions.alloc())?;
            books.leave_to_guest(place, &mut update.owed.nodes.free);
            Ok(())
        })
    }
}
