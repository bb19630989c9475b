//! Regions and slots: found and walked over.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::Error;
use engine::guest::SlotNumber;

use super::handle::{kvma_guest, read, read_or};
use super::values::{SlotPointer, kvma_guest_region};
use crate::boundary::{ffi_call, handle, required, write_out};
use crate::status::{Failure, KVMA_NO_SLOT, kvma_status};
use crate::walk::{kvma_walk, step};

/// Writes the region that holds the byte at `gpa` to `region` (NULL: not wanted).
/// `KVMA_NOT_MAPPED` if no slot is there. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_region_at(
    guest: Option<&kvma_guest>,
    gpa: u64,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
) -> kvma_status {
    ffi_call(|| {
        let found = read(guest, |guest| Ok(guest.region(gpa).ok_or(Error::NotMapped)?))?;
        write_out(region, found.into());
        Ok(())
    })
}

/// Writes the next region of the walk from below, as far as it lies in the walk, to `region`. False
/// at the end. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_next_region(
    guest: Option<&kvma_guest>,
    walk: Option<&mut kvma_walk>,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
) -> bool {
    let find = |(start, len)| {
        read_or(guest, None, |guest| guest.regions(start, len).next().map(kvma_guest_region::from))
    };
    step(walk, region, find, |walk, region| walk.pass_up(region.range.last))
}

/// Writes the next region of the walk from above to `region`. Otherwise as
/// `kvma_guest_next_region`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_prev_region(
    guest: Option<&kvma_guest>,
    walk: Option<&mut kvma_walk>,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
) -> bool {
    let find = |(start, len)| {
        read_or(guest, None, |guest| {
            guest.regions(start, len).next_back().map(kvma_guest_region::from)
        })
    };
    step(walk, region, find, |walk, region| walk.pass_down(region.range.start))
}

/// Writes a slot, as it was asked for and with what has been changed for all of it since, to
/// `region`, and its pointer to `data` (each NULL: not wanted). `KVMA_NO_SLOT`. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_slot(
    guest: Option<&kvma_guest>,
    slot: u32,
    region: Option<&mut MaybeUninit<kvma_guest_region>>,
    data: Option<&mut MaybeUninit<*mut c_void>>,
) -> kvma_status {
    ffi_call(|| {
        let (found, pointer) = read(guest, |guest| {
            let slot = guest.slot(SlotNumber::new(slot)).ok_or(Failure::Guest(KVMA_NO_SLOT))?;
            Ok((slot.region(), *slot.data()))
        })?;
        write_out(region, found.into());
        write_out(data, pointer.0);
        Ok(())
    })
}

/// Hears of a slot and its pointer. Returns `false` to stop. May look into the guest, and not
/// change it.
pub type kvma_guest_slot_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        region: *const kvma_guest_region,
        data: *mut c_void,
    ) -> bool,
>;

/// Tells `each` of all slots, by number. `KVMA_STOPPED` if it did not want to go on. O(n log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_slots(
    guest: Option<&kvma_guest>,
    each: kvma_guest_slot_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let each = required(each)?;
        read(guest, |guest| {
            let goes_on = guest.slots().all(|slot| {
                let region = slot.region().into();
                // SAFETY: the function's documentation promises this call, with a region that lives
                // for the call.
                unsafe { each(udata, &raw const region, slot.data().0) }
            });
            if goes_on { Ok(()) } else { Err(Failure::Stopped) }
        })
    })
}

/// Exchanges the pointer of a slot, and writes the former one to `former` (NULL: not wanted). Calls
/// no hook. `KVMA_NO_SLOT`. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_set_slot_data(
    guest: *mut kvma_guest,
    slot: u32,
    data: *mut c_void,
    former: Option<&mut MaybeUninit<*mut c_void>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `guest` is NULL or a live handle, as the caller promises.
        let guest = unsafe { handle(guest) }?;
        let old = guest.guest.write(|guest| {
            let exchange = |pointer: &mut SlotPointer| core::mem::replace(&mut pointer.0, data);
            let old = guest.update_slot_data(SlotNumber::new(slot), exchange);
            old.ok_or(Failure::Guest(KVMA_NO_SLOT))
        })?;
        write_out(former, old);
        Ok(())
    })
}

/// Writes the bytes of a slot that are plugged in to `bytes`. `KVMA_NO_SLOT`. O(log n + regions of
/// the slot).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_plugged_bytes(
    guest: Option<&kvma_guest>,
    slot: u32,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let plugged = read(guest, |guest| {
            guest.plugged_bytes(SlotNumber::new(slot)).ok_or(Failure::Guest(KVMA_NO_SLOT))
        })?;
        write_out(bytes, plugged);
        Ok(())
    })
}
