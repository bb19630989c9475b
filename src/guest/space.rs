//! A guest behind a lock, with faults and translations that do not take it.

use super::data::{GuestAlloc, GuestData, GuestNode};
use super::dirty::{DirtyBitmap, WatchWrites};
use super::fault::{Access, FaultAnswer, LeafSizes};
use super::modify::SlotChange;
use super::refusal::Refusal;
use super::region::Region;
use super::slot::{RemovedSlot, SlotNumber, SlotRequest};
use super::translate::Translation;
use super::{Guest, add};
use crate::addr_space::{AddrSpace, Busy, Token, VmaSnapshot};
use crate::hooks::Hooks;
use crate::node::ReadSide;
use crate::sync::RawLock;
use crate::vm_map::Update;

/// Nodes that the change of a part of a slot takes at most.
const NODES_PER_PART: usize = 2;

/// Faults and translations, without the lock: see [`lookup`](AddrSpace::lookup) for what that
/// means, and [`still_valid`](AddrSpace::still_valid) for the token.
impl<D, A: GuestAlloc<D> + ReadSide<GuestNode<D>>, L: RawLock> AddrSpace<Guest<D, A>, L> {
    /// Says what to do about a fault at `gpa`: [`Guest::fault`], without the lock. O(log n).
    ///
    /// The answer is [`Retry`](FaultAnswer::Retry) where a leaf prepared now would be in vain.
    #[inline]
    pub fn fault(&self, gpa: u64, access: Access, sizes: LeafSizes) -> FaultAnswer<Token> {
        answer(self.lookup(gpa), gpa, access, sizes)
    }

    /// Says what to do about a fault as [`fault`](Self::fault) does, but never waits.
    ///
    /// # Errors
    ///
    /// [`Busy`] when changes were always in the way.
    pub fn try_fault(
        &self,
        gpa: u64,
        access: Access,
        sizes: LeafSizes,
    ) -> Result<FaultAnswer<Token>, Busy> {
        Ok(answer(self.try_lookup(gpa)?, gpa, access, sizes))
    }

    /// Returns where the byte at `gpa` lies: [`Guest::translate`], without the lock. O(log n).
    ///
    /// It was right at some time during the call. Who uses the host's memory keeps the slot from
    /// being removed meanwhile, or takes a [snapshot](Self::snapshot) and lets removals wait for
    /// those.
    #[inline]
    pub fn translate(&self, gpa: u64) -> Option<Translation> {
        Translation::of(region_of(&self.lookup(gpa)?), gpa)
    }
}

/// The operations of a [`Guest`], each in one hold of the lock: nodes are allocated before it is
/// taken, and flushes end, and data is dropped, after it has been released. They must not be called
/// from hooks, or where the lock is held: they hang, or return
/// [`Reentrant`](crate::Error::Reentrant) if the lock knows its holder (and panic in debug
/// builds). Costs and errors are those of the guest's call.
impl<D, A: GuestAlloc<D>, L: RawLock> AddrSpace<Guest<D, A>, L> {
    fn change<H: Hooks<GuestData<D>> + ?Sized, R>(
        &self,
        nodes: usize,
        hooks: &mut H,
        change: impl FnOnce(
            &mut Guest<D, A>,
            &mut Update<'_, GuestData<D>, A, H>,
        ) -> Result<R, Refusal<H::Error>>,
    ) -> Result<R, Refusal<H::Error>> {
        self.check_reentry()?;
        self.update(nodes, hooks, change)
    }

    /// Adds a memory slot: [`Guest::add_slot`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::add_slot`].
    pub fn add_slot<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        request: SlotRequest<D>,
        hooks: &mut H,
    ) -> Result<SlotNumber, Refusal<H::Error>> {
        self.change(add::NODES_PER_SLOT, hooks, |guest, update| guest.add_slot(request, update))
    }

    /// Removes a memory slot: [`Guest::remove_slot`]. The flush has ended when it returns.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::remove_slot`].
    pub fn remove_slot<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        number: SlotNumber,
        hooks: &mut H,
    ) -> Result<RemovedSlot<D>, Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.remove_slot(number, update))
    }

    /// Removes the memory slot with exactly this range: [`Guest::remove_range`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::remove_range`].
    pub fn remove_range<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<RemovedSlot<D>, Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.remove_range(gpa, len, update))
    }

    /// Moves a memory slot, or changes its flags: [`Guest::modify_slot`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::modify_slot`].
    pub fn modify_slot<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        number: SlotNumber,
        change: SlotChange,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.modify_slot(number, change, update))
    }

    /// Plugs in blocks of a slot: [`Guest::plug`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::plug`].
    pub fn plug<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        slot: SlotNumber,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.plug(slot, gpa, len, update))
    }

    /// Unplugs blocks of a slot: [`Guest::unplug`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::unplug`].
    pub fn unplug<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        slot: SlotNumber,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.unplug(slot, gpa, len, update))
    }

    /// Says that contents have yet to arrive: [`Guest::await_contents`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::await_contents`].
    pub fn await_contents<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.await_contents(gpa, len, update))
    }

    /// Says that contents have arrived: [`Guest::arrived`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::arrived`].
    pub fn arrived<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.arrived(gpa, len, update))
    }

    /// Makes memory private: [`Guest::make_private`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::make_private`].
    pub fn make_private<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.make_private(gpa, len, update))
    }

    /// Makes memory shared with the hypervisor: [`Guest::make_shared`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::make_shared`].
    pub fn make_shared<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(NODES_PER_PART, hooks, |guest, update| guest.make_shared(gpa, len, update))
    }

    /// Takes pages that the guest has given up: [`Guest::balloon`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::balloon`].
    pub fn balloon<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        gpa: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.balloon(gpa, len, update))
    }

    /// Removes all slots: [`Guest::clear`]. `take` runs under the lock.
    ///
    /// ```
    /// use kvma::guest::{Guest, GuestNode, HostBacking, SlotRequest};
    /// use kvma::{AddrSpace, FixedPool, NoHooks, PageSize};
    ///
    /// static POOL: FixedPool<GuestNode, 16> = FixedPool::new();
    /// let guest = AddrSpace::new(Guest::new(0..=0xffff_ffff, PageSize::SIZE_4K, &POOL)?);
    /// let ram = SlotRequest::ram(0, 0x10_0000, HostBacking::Host { addr: 0x800_0000 });
    /// guest.add_slot(ram, &mut NoHooks).unwrap();
    /// let mut bytes = 0;
    /// guest.clear(&mut NoHooks, |slot| bytes += slot.region().range().len().unwrap_or(0))?;
    /// assert_eq!((bytes, guest.inspect(|guest| guest.slot_count())), (0x10_0000, 0));
    /// # Ok::<(), kvma::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Guest::clear`].
    pub fn clear<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        hooks: &mut H,
        take: impl FnMut(RemovedSlot<D>),
    ) -> Result<(), H::Error> {
        self.check_reentry()?;
        self.update(0, hooks, |guest, update| guest.clear(update, take))
    }

    /// Keeps the hypervisor's own memory out of the guest: [`Guest::keep_from_guest`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::keep_from_guest`].
    pub fn keep_from_guest<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(1, hooks, |guest, update| guest.keep_from_guest(addr, len, update))
    }

    /// Ends what [`keep_from_guest`](Self::keep_from_guest) began: [`Guest::leave_to_guest`].
    ///
    /// # Errors
    ///
    /// Those of [`Guest::leave_to_guest`].
    pub fn leave_to_guest<H: Hooks<GuestData<D>> + ?Sized>(
        &self,
        addr: u64,
        len: u64,
        hooks: &mut H,
    ) -> Result<(), Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.leave_to_guest(addr, len, update))
    }

    /// Takes a chunk of a slot's dirty bits: [`Guest::fetch_dirty`]. The flush has ended when it
    /// returns, so the pages may be copied.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::fetch_dirty`].
    pub fn fetch_dirty<H: Hooks<GuestData<D>> + WatchWrites + ?Sized>(
        &self,
        slot: SlotNumber,
        bitmap: &DirtyBitmap<'_>,
        first: u64,
        out: &mut [u64],
        hooks: &mut H,
    ) -> Result<Option<u64>, Refusal<H::Error>> {
        self.change(0, hooks, |guest, update| guest.fetch_dirty(slot, bitmap, first, out, update))
    }
}

#[inline]
pub(super) fn region_of(found: &VmaSnapshot) -> Region {
    Region::new(found.range(), found.attrs())
}

fn answer(
    found: Option<VmaSnapshot>,
    gpa: u64,
    access: Access,
    sizes: LeafSizes,
) -> FaultAnswer<Token> {
    let region = found.as_ref().map(region_of);
    let answer = FaultAnswer::of(region, gpa, access, sizes);
    match found {
        Some(found) if !found.token().is_dead() => answer.with_token(*found.token()),
        _ => answer.without_token(),
    }
}
