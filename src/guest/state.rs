//! Changes of parts of slots: plugged blocks, pages that are to arrive, private pages, balloons.

use super::Guest;
use super::data::{GuestAlloc, GuestData};
use super::refusal::Refusal;
use super::region::{Region, RegionKind, RegionState, with_state};
use super::slot::SlotNumber;
use crate::error::Error;
use crate::hooks::Advice;
use crate::range::VmRange;
use crate::vm_map::Updater;
use crate::vma::Vma;

/// The states that a part of a slot must have, and gets.
#[derive(Clone, Copy)]
struct Flip {
    /// Flags that decide whether the operation may be.
    of: RegionState,
    /// The value that these flags must have, if that matters.
    from: Option<RegionState>,
    /// The value that they get.
    to: RegionState,
}

/// Each of these changes `len` bytes from a guest-physical address, whole pages, or nothing. They
/// divide a slot into regions, which merge again when they have become alike.
///
/// O(log n + regions). Needs at most two nodes. Hooks: `prepare` and `on_protect` for each region
/// that changes, then `flush_begin` if there was any.
///
/// Common errors, by way of [`Refusal::Map`]: [`Error::ZeroLength`], [`Error::Unaligned`],
/// [`Error::OutOfRange`], [`Error::SplitRefused`] (against the slot's split granularity),
/// [`Error::OutOfMemory`], or the error of `prepare`.
impl<D, A: GuestAlloc<D>> Guest<D, A> {
    /// Plugs in blocks of a slot that were [unplugged](RegionState::UNPLUGGED) (virtio-mem,
    /// ACPI hot-plug).
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSlot`], [`Refusal::NotWhole`] if the range leaves the slot,
    /// [`Refusal::WrongState`] if a part of it is plugged in; the common ones.
    ///
    /// ```
    /// use kvma::guest::RegionState;
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// // virtio-mem: the slot is there from the start, and its memory comes in blocks.
    /// let ram = SlotRequest::ram(0, 16 << 20, HostBacking::Host { addr: 0x4000_0000 });
    /// let ram = guest.add_slot(ram.with_state(RegionState::UNPLUGGED), &mut NoHooks)?;
    /// guest.plug(ram, 4 << 20, 4 << 20, &mut NoHooks)?;
    /// assert!(guest.translate(0).is_none() && guest.translate(5 << 20).is_some());
    /// assert_eq!(guest.inspect(|guest| guest.plugged_bytes(ram)), Some(4 << 20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plug<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        slot: SlotNumber,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        self.check_in_slot(slot, gpa, len)?;
        let (of, none) = (RegionState::UNPLUGGED, RegionState::empty());
        self.flip(gpa, len, Flip { of, from: Some(of), to: none }, update)
    }

    /// Unplugs blocks of a slot. The hooks hear that nothing is allowed there any more; frames may
    /// be used otherwise once the flush has ended.
    ///
    /// # Errors
    ///
    /// Those of [`plug`](Self::plug), the other way round.
    pub fn unplug<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        slot: SlotNumber,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        self.check_in_slot(slot, gpa, len)?;
        let (of, none) = (RegionState::UNPLUGGED, RegionState::empty());
        self.flip(gpa, len, Flip { of, from: Some(none), to: of }, update)
    }

    /// Returns the bytes of a slot that are plugged in. O(log n + regions of the slot).
    pub fn plugged_bytes(&self, slot: SlotNumber) -> Option<u64> {
        let range = self.slot(slot)?.range();
        let len = range.len()?;
        let regions = self.regions(range.start(), len);
        let plugged = regions.filter(|region| !region.state().contains(RegionState::UNPLUGGED));
        plugged.map(|region| region.range().len()).sum()
    }

    /// Says that the contents of memory have yet to arrive: the guest runs here already, and its
    /// pages are elsewhere (post-copy migration). Accesses are answered with
    /// [`FaultAnswer::Fetch`](super::FaultAnswer::Fetch).
    ///
    /// # Errors
    ///
    /// [`Refusal::NotMapped`] if there is a gap, [`Refusal::WrongState`] if a part is no memory;
    /// the common ones.
    ///
    /// ```
    /// use kvma::guest::{Access, FaultAnswer, LeafSizes};
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// # let ram = SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0x4000_0000 });
    /// # guest.add_slot(ram, &mut NoHooks)?;
    /// // The guest runs here already, and its pages are still elsewhere.
    /// guest.await_contents(0, 0x8000, &mut NoHooks)?;
    /// let answer = guest.fault(0x3008, Access::READ, LeafSizes::SIZE_4K);
    /// assert!(matches!(answer, FaultAnswer::Fetch { .. }));
    /// guest.arrived(0x3000, 0x1000, &mut NoHooks)?;
    /// let answer = guest.fault(0x3008, Access::READ, LeafSizes::SIZE_4K);
    /// assert!(matches!(answer, FaultAnswer::Map { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn await_contents<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let of = RegionState::AWAITED;
        self.flip(gpa, len, Flip { of, from: None, to: of }, update)
    }

    /// Says that the contents have arrived. What has arrived already is passed over, so that pages
    /// may be pushed and fetched at once.
    ///
    /// # Errors
    ///
    /// Those of [`await_contents`](Self::await_contents).
    pub fn arrived<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let (of, none) = (RegionState::AWAITED, RegionState::empty());
        self.flip(gpa, len, Flip { of, from: None, to: none }, update)
    }

    /// Makes memory private (confidential guests). What is private is passed over. The range may
    /// lie in several slots.
    ///
    /// # Errors
    ///
    /// Those of [`await_contents`](Self::await_contents).
    ///
    /// ```
    /// use kvma::guest::{Access, FaultAnswer, LeafSizes};
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// # let ram = SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0x4000_0000 });
    /// # guest.add_slot(ram, &mut NoHooks)?;
    /// // A confidential guest takes a page for its own; the hypervisor has agreed.
    /// let access = Access::READ.private();
    /// let answer = guest.fault(0x3008, access, LeafSizes::SIZE_4K);
    /// assert!(matches!(answer, FaultAnswer::Convert { gpa: 0x3000, .. }));
    /// guest.make_private(0x3000, 0x1000, &mut NoHooks)?;
    /// let answer = guest.fault(0x3008, access, LeafSizes::SIZE_4K);
    /// assert!(matches!(answer, FaultAnswer::Map { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn make_private<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let of = RegionState::PRIVATE;
        self.flip(gpa, len, Flip { of, from: None, to: of }, update)
    }

    /// Makes memory shared with the hypervisor again.
    ///
    /// # Errors
    ///
    /// Those of [`await_contents`](Self::await_contents).
    pub fn make_shared<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let (of, none) = (RegionState::PRIVATE, RegionState::empty());
        self.flip(gpa, len, Flip { of, from: None, to: none }, update)
    }

    /// Takes pages that the guest has given up (a balloon, free page reporting). The map stays as
    /// it is: the next access finds fresh pages. Needs no node. Hooks: `on_advise` with
    /// [`Advice::DontNeed`] for each region, then `flush_begin`; frames may be used otherwise once
    /// the flush has ended.
    ///
    /// # Errors
    ///
    /// Those of [`await_contents`](Self::await_contents); [`Refusal::WrongState`] also for blocks
    /// that are not plugged in.
    ///
    /// ```
    /// use kvma::guest::GuestData;
    /// use kvma::hooks::Advice;
    /// use kvma::{Hooks, Piece};
    ///
    /// /// Frames of the guest that have come back.
    /// #[derive(Default)]
    /// struct Stage2(u64);
    ///
    /// impl Hooks<GuestData<()>> for Stage2 {
    ///     type Error = Error;
    ///
    ///     fn on_advise(&mut self, piece: &Piece<'_, GuestData<()>>, advice: Advice) {
    ///         if advice == Advice::DontNeed {
    ///             self.0 += piece.range().page_count();
    ///         }
    ///     }
    /// }
    /// # use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// # use kvma::{AddrSpace, Error, FixedPool, NoHooks, PageSize};
    /// # let nodes = FixedPool::<GuestNode, 32>::new();
    /// # let guest = Guest::<(), _>::new(0..=0xffff_ffff, PageSize::SIZE_4K, &nodes)?;
    /// # let guest = AddrSpace::new(guest);
    /// # let ram = SlotRequest::ram(0, 0x8000, HostBacking::Host { addr: 0x4000_0000 });
    /// # guest.add_slot(ram, &mut NoHooks)?;
    /// let mut stage2 = Stage2::default();
    /// guest.balloon(0x2000, 0x3000, &mut stage2)?;
    /// assert_eq!(stage2.0, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn balloon<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let range = VmRange::new(gpa, len, self.page_size())?;
        let is_ours = |region: &Region| {
            matches!(region.kind(), RegionKind::Ram | RegionKind::Shared)
                && !region.state().contains(RegionState::UNPLUGGED)
        };
        self.check_each(range, is_ours)?;
        self.regions.advise(gpa, len, Advice::DontNeed, update).map_err(Refusal::Map)
    }

    fn flip<By, U: Updater<GuestData<D>, A, By> + ?Sized>(
        &mut self,
        gpa: u64,
        len: u64,
        flip: Flip,
        update: &mut U,
    ) -> Result<(), Refusal<U::Error>> {
        let range = VmRange::new(gpa, len, self.page_size())?;
        self.check_each(range, |region| {
            let state = region.state().intersection(flip.of);
            region.kind().is_memory() && flip.from.is_none_or(|from| state == from)
        })?;
        let new = |vma: &Vma<'_, GuestData<D>>| {
            let region = Region::new(vma.range(), vma.attrs());
            let state = region.state().difference(flip.of).union(flip.to);
            with_state(region.attrs(), state)
        };
        let Self { regions, books, changes, .. } = self;
        update.run(regions, |regions, update| {
            update.check_alloc(regions.alloc())?;
            // A pool that has enough nodes for the slots there are has enough for this.
            books.settle(&mut update.owed.nodes.free);
            regions.update_attrs(gpa, len, new, update).map_err(Refusal::Map)?;
            *changes += 1;
            Ok(())
        })
    }

    /// Checks that a range is covered by regions that are fit for an operation.
    fn check_each<E: From<Error>>(
        &self,
        range: VmRange,
        is_fit: impl Fn(&Region) -> bool,
    ) -> Result<(), Refusal<E>> {
        Self::check_in_space(&self.regions, range)?;
        let len = range.len().ok_or(Error::OutOfRange)?;
        if !self.regions.covers(range.start(), len) {
            return Err(Refusal::NotMapped);
        }
        match self.regions(range.start(), len).find(|region| !is_fit(region)) {
            Some(region) => Err(Refusal::WrongState(region.slot())),
            None => Ok(()),
        }
    }

    fn check_in_slot<E: From<Error>>(
        &self,
        slot: SlotNumber,
        gpa: u64,
        len: u64,
    ) -> Result<(), Refusal<E>> {
        let range = VmRange::new(gpa, len, self.page_size())?;
        let whole = self.slot(slot).ok_or(Refusal::NoSlot)?.range();
        if whole.contains(range.start()) && whole.contains(range.last()) {
            Ok(())
        } else {
            Err(Refusal::NotWhole(slot))
        }
    }
}
