//! Memory slots: added, removed, moved and re-flagged.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::guest::{RemovedSlot, SlotChange, SlotNumber, SlotRequest};
use engine::{Prot, VmaFlags};

use super::handle::kvma_guest;
use super::update::{kvma_guest_update, within, within_slots};
use super::values::{
    KVMA_GUEST_LOG_DIRTY, KVMA_GUEST_READ_ONLY, SlotPointer, kvma_guest_backing, kvma_guest_region,
    to_kind, to_state,
};
use crate::boundary::{ffi_call, required, write_out};
use crate::request::to_prot;
use crate::status::{Failure, kvma_status};

/// A request for a new memory slot. All zero but `len` and `backing`: RAM at address 0 that the
/// guest may use in every way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_slot_request {
    /// The guest-physical address of the first byte.
    pub start: u64,
    /// The length in bytes.
    pub len: u64,
    /// `KVMA_GUEST_RAM` or the like.
    pub kind: u32,
    /// The states that the whole slot begins with, such as `KVMA_GUEST_UNPLUGGED` for memory that
    /// comes later, block by block.
    pub state: u32,
    /// The source of the memory.
    pub backing: kvma_guest_backing,
    /// The accesses that the guest may make, `KVMA_READ` and the like; 0: all, as far as the kind
    /// goes.
    pub prot: u32,
    /// The memory type (`KVMA_DEVICE` or the like) and the split granularity (`KVMA_SPLIT_2M` or
    /// the like), or 0.
    pub flags: u32,
    /// The size in bytes of the largest leaf that the backing allows, such as the size of the
    /// host's huge pages: a power of two. 0: there is no limit.
    pub max_leaf: u64,
    /// `true` for a slot that has to have the number `number`; else it gets the lowest free one.
    pub numbered: bool,
    /// The number, if the slot is `numbered`.
    pub number: u32,
    /// The hypervisor's pointer. It comes back when the slot is removed.
    pub data: *mut c_void,
}

impl kvma_guest_slot_request {
    /// # Errors
    ///
    /// `Argument` for unknown kinds, states or flags.
    fn to_request(self) -> Result<SlotRequest<SlotPointer>, Failure> {
        let (kind, state) = (to_kind(self.kind)?, to_state(self.state)?);
        let flags = VmaFlags::from_bits(self.flags).ok_or(Failure::Argument)?;
        if !VmaFlags::MEM_TYPE.union(VmaFlags::SPLIT_GRANULARITY).contains(flags) {
            return Err(Failure::Argument);
        }
        let prot = if self.prot == 0 { Prot::all() } else { to_prot(self.prot)? };
        let mut request = SlotRequest::new(self.start, self.len, kind, self.backing.to_backing()?)
            .with_state(state)
            .with_prot(prot)
            .with_mem_type(flags.mem_type())
            .with_split_granularity(flags.split_granularity());
        if self.max_leaf != 0 {
            request = request.with_max_leaf(self.max_leaf);
        }
        if self.numbered {
            request = request.with_number(SlotNumber::new(self.number));
        }
        Ok(request.with_data(SlotPointer(self.data)))
    }
}

/// Adds a memory slot, and writes its number to `slot` (NULL: not wanted). O(log n). Needs up to 3
/// nodes. Hooks: `prepare`, `on_map`.
///
/// `KVMA_SLOT_IN_THE_WAY` if another slot lies there, `KVMA_SLOT_SHOWS_IT` if a slot that keeps
/// memory to the hypervisor shows it: `slot` is the number of that one then. `KVMA_HOST_MEMORY`,
/// `KVMA_SLOT_NUMBER_TAKEN`, `KVMA_TOO_MANY_ALIASES`; `KVMA_BACKING_DIFFERS` if the backing does
/// not suit the kind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_add_slot(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    request: Option<&kvma_guest_slot_request>,
    slot: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    let mut number = None;
    let add = || {
        let request = required(request)?.to_request()?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe {
            within(update, guest, |guest, update| {
                let added = guest.add_slot(request, update);
                number = added.as_ref().map_or_else(|refusal| refusal.slot(), |slot| Some(*slot));
                added.map(drop)
            })
        }
    };
    let status = ffi_call(add);
    if let Some(number) = number {
        write_out(slot, number.get());
    }
    status
}

/// Removes a memory slot, all of it, and writes what it was to `region` and its pointer to `data`
/// (each NULL: not wanted). O(log n + regions). Needs no node. Hooks: `prepare` and `on_unmap` for
/// each region, then `flush_begin`. `KVMA_NO_SLOT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_remove_slot(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: u32,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
    data: Option<&mut MaybeUninit<*mut c_void>>,
) -> kvma_status {
    ffi_call(|| {
        let number = SlotNumber::new(slot);
        // SAFETY: both are NULL or live handles, as the caller promises.
        let removed =
            unsafe { within(update, guest, |guest, update| guest.remove_slot(number, update)) }?;
        write_removed(removed, region, data);
        Ok(())
    })
}

/// Removes the memory slot whose range is exactly `len` bytes from `gpa`. Otherwise as
/// `kvma_guest_remove_slot`. `KVMA_NOT_MAPPED` if nothing is there, `KVMA_SLOT_NOT_WHOLE` if the
/// range is a part of a slot, or holds more than one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_remove_range(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
    data: Option<&mut MaybeUninit<*mut c_void>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: both are NULL or live handles, as the caller promises.
        let removed =
            unsafe { within(update, guest, |guest, update| guest.remove_range(gpa, len, update)) }?;
        write_removed(removed, region, data);
        Ok(())
    })
}

fn write_removed(
    removed: RemovedSlot<SlotPointer>,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
    data: Option<&mut MaybeUninit<*mut c_void>>,
) {
    write_out(region, removed.region().into());
    write_out(data, removed.into_data().0);
}

/// Hears of a slot that has been removed: what it was, and its pointer. Must not call into the
/// guest.
pub type kvma_guest_take_fn = Option<
    unsafe extern "C" fn(udata: *mut c_void, region: *const kvma_guest_region, data: *mut c_void),
>;

/// Removes all slots, and tells `take` (NULL: nobody) of each, by address. What is kept from guests
/// stays so. O(n log n). Needs no node. Hooks: `prepare` and `on_unmap` for each region, then
/// `flush_begin` if there was any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_clear(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    take: kvma_guest_take_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let each = |removed: RemovedSlot<SlotPointer>| {
            let Some(take) = take else { return };
            let region = removed.region().into();
            // SAFETY: the function's documentation promises this call, with a region that lives for
            // the call.
            unsafe { take(udata, &raw const region, removed.into_data().0) }
        };
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe { within(update, guest, |guest, update| guest.clear(update, each)) }
    })
}

/// Moves a memory slot, or changes its flags, or both.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kvma_guest_slot_change {
    /// `true` to move the slot to `to`.
    pub moves: bool,
    /// The guest-physical address to move to, if the slot `moves`.
    pub to: u64,
    /// `KVMA_GUEST_READ_ONLY` and `KVMA_GUEST_LOG_DIRTY`, as far as they are to be set.
    pub set: u32,
    /// `KVMA_GUEST_READ_ONLY` and `KVMA_GUEST_LOG_DIRTY`, as far as they are to be cleared.
    pub clear: u32,
}

impl kvma_guest_slot_change {
    /// # Errors
    ///
    /// `Argument` for other flags, and for those that are to be set and cleared at once.
    fn to_change(self) -> Result<SlotChange, Failure> {
        let other = !(KVMA_GUEST_READ_ONLY | KVMA_GUEST_LOG_DIRTY);
        if (self.set | self.clear) & other != 0 || self.set & self.clear != 0 {
            return Err(Failure::Argument);
        }
        let change = SlotChange::new().set(to_state(self.set)?).clear(to_state(self.clear)?);
        Ok(if self.moves { change.move_to(self.to) } else { change })
    }
}

/// Moves a memory slot, or changes its flags, or both, as one change with one flush. The new place
/// may overlap the old one; what is special about parts of the slot moves with them. O(regions of
/// the slot x log n). Needs no node.
///
/// Hooks of a move: `prepare` for each region, gone and come; `on_unmap` for each, `flush_begin`,
/// `on_map` for each. Without a move: `prepare` and `on_protect` for each region that changes,
/// `flush_begin` if there was any. `KVMA_NO_SLOT`; `KVMA_SLOT_IN_THE_WAY`, with its number in
/// `in_the_way` (NULL: not wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_modify_slot(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: u32,
    change: Option<&kvma_guest_slot_change>,
    in_the_way: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    let change = match required(change).and_then(|change| change.to_change()) {
        Ok(change) => change,
        Err(failure) => return failure.status(),
    };
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, in_the_way, |guest, update| {
            guest.modify_slot(SlotNumber::new(slot), change, update)
        })
    }
}
