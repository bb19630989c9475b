//! Moving memory slots and changing their flags, as one change.

use super::Guest;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::region::{Region, RegionState, with_state};
use super::slot::SlotNumber;
use crate::error::Error;
use crate::range::VmRange;
use crate::split_merge::Merge;
use crate::vm_map::Updater;
use crate::vma::{Attrs, Vma};

/// Changes to a memory slot, all made at once.
///
/// ```
/// use kvma::guest::{RegionState, SlotChange};
///
/// let change = SlotChange::new().move_to(0xe000_0000).set(RegionState::LOG_DIRTY);
/// assert_ne!(change, SlotChange::new());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotChange {
    to: Option<u64>,
    set: RegionState,
    clear: RegionState,
}

impl SlotChange {
    /// The flags that can be changed for a slot as a whole. The others are of its parts.
    const OF_SLOTS: RegionState = RegionState::READ_ONLY.union(RegionState::LOG_DIRTY);

    /// Returns a change of nothing.
    pub const fn new() -> Self {
        Self { to: None, set: RegionState::empty(), clear: RegionState::empty() }
    }

    /// Moves the slot so that it begins at `gpa`.
    #[must_use]
    pub const fn move_to(self, gpa: u64) -> Self {
        Self { to: Some(gpa), ..self }
    }

    /// Sets [`RegionState::READ_ONLY`] or [`RegionState::LOG_DIRTY`]. Other flags are ignored.
    #[must_use]
    pub const fn set(self, flags: RegionState) -> Self {
        let flags = flags.intersection(Self::OF_SLOTS);
        Self { set: self.set.union(flags), clear: self.clear.difference(flags), ..self }
    }

    /// Clears flags: any of those that [`set`](Self::set) sets.
    #[must_use]
    pub const fn clear(self, flags: RegionState) -> Self {
        let flags = flags.intersection(Self::OF_SLOTS);
        // Wins over those that are set: they are cleared afterwards.
        Self { clear: self.clear.union(flags), ..self }
    }

    fn state(self, state: RegionState) -> RegionState {
        state.union(self.set).difference(self.clear)
    }

    fn attrs(self, attrs: Attrs) -> Attrs {
        with_state(attrs, self.state(RegionState::from_bits_truncate(attrs.user_flags())))
    }
}

impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Moves a memory slot, or changes its flags, or both, as one change with one flush. The new
    /// place may overlap the old one. What is special about parts of the slot moves with them.
    ///
    /// O(regions of the slot × log n). Needs no node. Hooks of a move: `prepare` for each region,
    /// gone and come; `on_unmap` for each, `flush_begin`, `on_map` for each. Without a move:
    /// `prepare` and `on_protect` for each region that changes, `flush_begin` if there was any.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSlot`], [`Refusal::InTheWay`]; by way of [`Refusal::Map`]:
    /// [`Error::Unaligned`], [`Error::OutOfRange`], or the error of `prepare`.
    ///
    /// ```
    /// use kvma::guest::SlotChange;
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// // The guest has given a PCI device another base address.
    /// let bar = SlotRequest::ram(0xe000_0000, 0x4000, HostBacking::Host { addr: 0x5000 });
    /// let bar = guest.add_slot(bar, &mut NoHooks)?;
    /// guest.modify_slot(bar, SlotChange::new().move_to(0xf000_0000), &mut NoHooks)?;
    /// assert_eq!(guest.translate(0xf000_1000).and_then(|found| found.host()), Some(0x6000));
    /// assert!(guest.translate(0xe000_1000).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn modify_slot<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        number: SlotNumber,
        change: SlotChange,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let old = self.slot(number).ok_or(Refusal::NoSlot)?.range();
        let len = old.len().ok_or(Error::OutOfRange)?;
        let to = change.to.unwrap_or(old.start());
        let new = VmRange::new(to, len, self.page_size())?;
        Self::check_in_space(&self.regions, new)?;
        if new != old {
            self.check_free_but_for(old, new)?;
        }
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            let changed = if new == old {
                let new = |vma: &Vma<'_, GuestData<D>>| change.attrs(vma.attrs());
                regions.update_attrs(old.start(), len, new, update)
            } else {
                let attrs = |attrs| change.attrs(attrs);
                regions.remap(old.start(), len, to, attrs, Merge::Both, update)
            };
            changed.map_err(Refusal::Map)?;
            *changes += 1;
            books.numbers.relocate(number, new.start());
            regions.amend(new.start(), |data| {
                if let Some(slot) = data.slot_mut() {
                    slot.attrs = change.attrs(slot.attrs);
                }
            });
            Ok(())
        })
    }

    /// Refuses a range where another slot lies than the one whose range is `own`. Names the lowest.
    fn check_free_but_for<E>(&self, own: VmRange, range: VmRange) -> Result<(), Refusal<E>> {
        let below = own.start().checked_sub(1).map(|last| (range.start(), last.min(range.last())));
        let above = own.end().map(|start| (start.max(range.start()), range.last()));
        for (first, last) in [below, above].into_iter().flatten() {
            if first <= last
                && let Some(vma) = self.regions.overlapping(first, last - first + 1).next()
            {
                return Err(Refusal::InTheWay(Region::new(vma.range(), vma.attrs()).slot()));
            }
        }
        Ok(())
    }
}
