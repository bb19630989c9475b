//! The other direction: the uses of the host's memory.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::guest::HostUse;

use super::handle::{kvma_guest, read};
use super::update::{kvma_guest_update, within_slots};
use crate::attrs::kvma_range;
use crate::boundary::{ffi_call, required};
use crate::status::{Failure, kvma_status};

/// Hears of a part of a slot that shows the memory: where the guest sees it, and the host's address
/// or the offset in the file of its first byte. Returns `false` to stop. May look into the guest,
/// and not change it.
pub type kvma_guest_use_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        slot: u32,
        range: *const kvma_range,
        offset: u64,
    ) -> bool,
>;

fn visit(
    mut uses: impl Iterator<Item = HostUse>,
    visit: kvma_guest_use_fn,
    udata: *mut c_void,
) -> Result<(), Failure> {
    let visit = required(visit)?;
    let goes_on = uses.all(|shown| {
        let range = shown.range().into();
        // SAFETY: the function's documentation promises this call, with a range that lives for the
        // call.
        unsafe { visit(udata, shown.slot().get(), &raw const range, shown.offset()) }
    });
    if goes_on { Ok(()) } else { Err(Failure::Stopped) }
}

/// Tells `each` of the parts of slots that show any of `len` bytes of the host's memory from
/// `addr`, in no order. Whole pages are given, even for parts of them. For a host that takes memory
/// back, moves it, or wants to use it for itself. Slots count as they were added: blocks that are
/// not plugged are in there too. `KVMA_STOPPED` if `each` did not want to go on.
///
/// O(k log n) and O(1) for each, where k is how many slots show the same memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_host_uses(
    guest: Option<&kvma_guest>,
    addr: u64,
    len: u64,
    each: kvma_guest_use_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| read(guest, |guest| visit(guest.host_uses(addr, len), each, udata)))
}

/// Tells `each` of the parts of slots that show any of `len` bytes of a file from `offset`, as for
/// files that are truncated. Otherwise as `kvma_guest_host_uses`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_file_uses(
    guest: Option<&kvma_guest>,
    file: u64,
    offset: u64,
    len: u64,
    each: kvma_guest_use_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| read(guest, |guest| visit(guest.file_uses(file, offset, len), each, udata)))
}

/// Keeps `len` bytes of the host's memory from `addr` out of the guest: no slot may show any of
/// them from now on. For the hypervisor's own code, data and page tables. O(k log n). Needs 1 node.
/// Calls no hook. `KVMA_SLOT_SHOWS_IT` if a slot shows some of it, with its number in `named`
/// (NULL: not wanted); `KVMA_TOO_MANY_ALIASES`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_keep_from_guest(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    addr: u64,
    len: u64,
    named: Option<&mut MaybeUninit<u32>>,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, named, |guest, update| guest.keep_from_guest(addr, len, update))
    }
}

/// Ends what `kvma_guest_keep_from_guest` began with exactly these numbers. `KVMA_NOT_MAPPED` if
/// there was no such call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_leave_to_guest(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    addr: u64,
    len: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    unsafe {
        within_slots(update, guest, None, |guest, update| guest.leave_to_guest(addr, len, update))
    }
}
