//! Adding memory slots.

use super::Guest;
use super::books::{Books, Entry};
use super::data::{GuestAlloc, GuestData, SlotEntry};
use super::refusal::Refusal;
use super::region::with_slot;
use super::slot::{SlotNumber, SlotRequest};
use crate::error::Error;
use crate::hooks::Hooks;
use crate::placement::Placement;
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::vm_map::{Chosen, Update, Updater, VmMap};
use crate::vma::Attrs;

/// The nodes that a new slot takes at most: one in each map.
pub(super) const NODES_PER_SLOT: usize = 3;

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Adds a memory slot, and returns its number.
    ///
    /// O(log n + k log n), where k is how many slots show the same memory. Needs a node; another
    /// one if no slot is there whose number is one of the same eight; and another one if what it
    /// shows goes to a node that is full.
    /// Hooks: `prepare` and `on_map` for the whole slot.
    ///
    /// ```
    /// use kvma::guest::{Guest, HostBacking, Refusal, SlotNumber, SlotRequest};
    /// # use kvma::guest::GuestNode;
    /// # use kvma::{Error, FixedPool, NoHooks, PageSize};
    /// # let pool = FixedPool::<GuestNode, 16>::new();
    ///
    /// let mut guest = Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &pool)?;
    /// let ram = SlotRequest::ram(0, 0x10_0000, HostBacking::Host { addr: 0x800_0000 });
    /// assert_eq!(guest.add_slot(ram, &mut NoHooks), Ok(SlotNumber::new(0)));
    /// let device = SlotRequest::mmio(0xf_f000, 0x1000, 3);
    /// let refused: Result<_, Refusal<Error>> = guest.add_slot(device, &mut NoHooks);
    /// assert_eq!(refused, Err(Refusal::InTheWay(SlotNumber::new(0))));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refusal::InTheWay`], [`Refusal::NumberTaken`], [`Refusal::HostMemory`],
    /// [`Refusal::TooManyAliases`]; by way of [`Refusal::Map`]: [`Error::ZeroLength`],
    /// [`Error::Unaligned`], [`Error::OutOfRange`], [`Error::BackingDiffers`] (the backing does not
    /// suit the kind), [`Error::OutOfMemory`], [`Error::ForeignNodes`], or the error of `prepare`.
    /// The data is dropped when the update is finished.
    ///
    /// [`Error::ZeroLength`]: crate::Error::ZeroLength
    /// [`Error::Unaligned`]: crate::Error::Unaligned
    /// [`Error::OutOfRange`]: crate::Error::OutOfRange
    /// [`Error::BackingDiffers`]: crate::Error::BackingDiffers
    /// [`Error::OutOfMemory`]: crate::Error::OutOfMemory
    /// [`Error::ForeignNodes`]: crate::Error::ForeignNodes
    pub fn add_slot<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        request: SlotRequest<D>,
        update: &mut U,
    ) -> Result<SlotNumber, Refusal<U::Error>> {
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let plan = Self::plan_add(regions, books, &request, update);
            let SlotRequest { data, .. } = request;
            let (new, chosen, range, attrs) = match plan {
                Ok(plan) => plan,
                Err(refusal) => {
                    // Only to be dropped after unlock.
                    update.owed.reject(GuestData::refused(data));
                    return Err(refusal);
                }
            };
            let attrs = with_slot(attrs, new.number);
            let (page_count, place) = (range.page_count(), new.place.map(|(place, _)| place));
            let slot = GuestData::first(SlotEntry { page_count, attrs, place, data });
            if let Err(error) = books.enter(new, range.start(), &mut update.owed.nodes.free) {
                update.owed.reject(slot);
                return Err(error.into());
            }
            if let Err(error) = regions.map_chosen(chosen, attrs, slot, Merge::Never, update) {
                books.leave(new, range.start(), &mut update.owed.nodes.free);
                books.settle(&mut update.owed.nodes.free);
                return Err(Refusal::Map(error));
            }
            *changes += 1;
            Ok(new.number)
        })
    }

    fn plan_add<H: Hooks<GuestData<D>> + ?Sized>(
        regions: &VmMap<GuestData<D>, A>,
        books: &mut Books<D, A>,
        request: &SlotRequest<D>,
        update: &mut Update<'_, GuestData<D>, A, H>,
    ) -> Result<(Entry, Chosen, VmRange, Attrs), Refusal<H::Error>> {
        let (range, attrs) = request.check(regions.page_size())?;
        let there = Placement::FixedNoReplace(request.start);
        let chosen = regions.choose(there, request.len).map_err(|error| match error {
            Error::Overlap => Self::in_the_way(regions, request.start, request.len),
            error => error.into(),
        })?;
        update.check_alloc(regions.alloc())?;
        let nodes = &mut update.owed.nodes.free;
        let (new, count) = books.plan(request.number, request.backing, request.len, nodes)?;
        update.preallocate(count + 1)?;
        Ok((new, chosen, range, attrs))
    }
}
