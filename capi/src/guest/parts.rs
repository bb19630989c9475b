//! Changes of parts of slots: plugged blocks, pages that are to arrive, private pages, balloons.
//!
//! Each changes `len` bytes from a guest-physical address, whole pages, or nothing. They divide a
//! slot into regions, which merge again when they have become alike. O(log n + regions).

use core::mem::MaybeUninit;

use engine::guest::SlotNumber;

use super::handle::kvma_guest;
use super::update::{kvma_guest_update, within_slots};
use crate::status::kvma_status;

/// Plugs in blocks of a slot that were unplugged (virtio-mem, ACPI hot-plug): `len` bytes from
/// `gpa`, whole pages. `KVMA_NO_SLOT`; `KVMA_SLOT_NOT_WHOLE` if the range leaves the slot,
/// `KVMA_WRONG_STATE` if a part of it is plugged in.
///
/// Needs at most 2 nodes. Hooks: `prepare` and `on_protect` for each region that changes, then
/// `flush_begin` if there was any. The slot that a refusal names is written to `named` (NULL: not
/// wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_plug(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: u32,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| {
            guest.plug(SlotNumber::new(slot), gpa, len, update)
        })
    }
}

/// Unplugs blocks of a slot: `on_protect` tells that nothing is allowed there any more. Frames may
/// be used otherwise when the update is finished. Otherwise as `kvma_guest_plug`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_unplug(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: u32,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| {
            guest.unplug(SlotNumber::new(slot), gpa, len, update)
        })
    }
}

/// Says that the contents of memory have yet to arrive (post-copy migration): accesses are answered
/// with `KVMA_GUEST_FAULT_FETCH`. `KVMA_NOT_MAPPED` if there is a gap, `KVMA_WRONG_STATE` if a part
/// is no memory.
///
/// Needs at most 2 nodes. Hooks: `prepare` and `on_protect` for each region that changes, then
/// `flush_begin` if there was any. The slot that a refusal names is written to `named` (NULL: not
/// wanted).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_await_contents(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| guest.await_contents(gpa, len, update))
    }
}

/// Says that the contents have arrived. What has arrived already is passed over, so that pages may
/// be pushed and fetched at once. Otherwise as `kvma_guest_await_contents`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_arrived(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { within_slots(update, guest, named, |guest, update| guest.arrived(gpa, len, update)) }
}

/// Makes memory private (confidential guests). What is private is passed over. The range may lie in
/// several slots. Otherwise as `kvma_guest_await_contents`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_make_private(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| guest.make_private(gpa, len, update))
    }
}

/// Makes memory shared with the hypervisor again. Otherwise as `kvma_guest_make_private`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_make_shared(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| guest.make_shared(gpa, len, update))
    }
}

/// Takes pages that the guest has given up (a balloon, free page reporting). The map stays as it
/// is: the next access finds fresh pages. Needs no node. Hooks: `on_advise` with
/// `KVMA_ADVISE_DONT_NEED` for each region, then `flush_begin`. Otherwise as
/// `kvma_guest_await_contents`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_balloon(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    gpa: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe { within_slots(update, guest, named, |guest, update| guest.balloon(gpa, len, update)) }
}
