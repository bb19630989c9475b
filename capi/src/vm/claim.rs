//! Claims: ranges that are held without being mapped, while slow work goes on.

use core::ffi::c_void;
use core::mem::{MaybeUninit, needs_drop};
use core::ptr;

use engine::vm_map::ClaimedRange;

use super::handle::{Map, kvma_vm};
use super::update::{MapUpdate, alone, kvma_update, within};
use crate::alloc::{HandleSlot, Memory};
use crate::attrs::{kvma_attrs, kvma_range};
use crate::boundary::{ffi_call, free_handle, out_handle, required, write_out};
use crate::cell::BusyCell;
use crate::hooks::kvma_hooks;
use crate::request::{kvma_placement, to_merge};
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// A claim on a range. Opaque. In the end it is given to `kvma_vm_release_claim`, committed or not.
pub struct kvma_claim {
    claimed: BusyCell<ClaimedRange>,
    memory: Memory,
}

fn claim(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    placement: &kvma_placement,
    len: u64,
) -> Result<*mut kvma_claim, Failure> {
    let placement = placement.to_placement()?;
    let slot = HandleSlot::new(vm.memory)?;
    let claimed = BusyCell::new(map.claim(placement, len, update)?);
    Ok(slot.fill(kvma_claim { claimed, memory: vm.memory }))
}

fn commit(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    claim: &kvma_claim,
    attrs: &kvma_attrs,
    data: *mut c_void,
    merge: u32,
) -> Result<(), Failure> {
    let merge = to_merge(merge)?;
    // SAFETY: the table is the map's own, which lives as long as the map; the data does not live
    // longer.
    let data = unsafe { UserData::new(data, vm.ops) };
    claim.claimed.read(|claimed| {
        map.commit_claim(claimed, (*attrs).into(), data, merge, update)?;
        map.update_data(claimed.range().start(), UserData::take)?;
        Ok(())
    })
}

/// Gives up what is still claimed, and frees the handle if that succeeds.
///
/// # Safety
///
/// `claim` is NULL or a live handle.
unsafe fn release(
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    claim: *mut kvma_claim,
) -> Result<(), Failure> {
    const { assert!(!needs_drop::<ClaimedRange>(), "it is copied bit by bit below") };
    let close = |handle: &kvma_claim| {
        handle.claimed.write(|claimed| {
            // SAFETY: the reference is valid, and the value has nothing to drop, so a second copy
            // does no harm. It is used up here, and the one in the handle only if this fails.
            let claimed = unsafe { ptr::read(claimed) };
            map.release_claim(claimed, update)
        })?;
        handle.claimed.close().map(drop)
    };
    // SAFETY: it is NULL or a live claim, by this function's contract, and came from a `HandleSlot`
    // of its memory; `BusyCell::close` succeeds once.
    unsafe { free_handle(claim, |claim| claim.memory, close) }
}

/// Chooses a range of `len` bytes and claims it, for work that is done without the lock. When that
/// went well, `kvma_vm_commit_claim` makes a VMA of it; `kvma_vm_release_claim` comes last in any
/// case. Writes the handle to `claim`; NULL if the call fails.
///
/// A claim is not a VMA: lookups and iterators do not show it, and operations on ranges pass over
/// it. But nobody else is given the range. A mapping at a fixed address takes the whole claim away.
/// What `KVMA_FIXED` replaces is unmapped now, and the hooks hear of it. O(log n + VMAs replaced).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_claim(
    vm: *mut kvma_vm,
    placement: Option<&kvma_placement>,
    len: u64,
    hooks: *const kvma_hooks,
    claim: Option<&mut MaybeUninit<*mut kvma_claim>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, placement) = (out_handle(claim)?, required(placement)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        *out = unsafe {
            alone(vm, hooks, |vm, map, update| self::claim(vm, map, update, placement, len))
        }?;
        Ok(())
    })
}

/// Does what `kvma_vm_claim` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_claim(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    placement: Option<&kvma_placement>,
    len: u64,
    claim: Option<&mut MaybeUninit<*mut kvma_claim>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, placement) = (out_handle(claim)?, required(placement)?);
        // SAFETY: both are NULL or live handles, as the caller promises.
        *out = unsafe {
            within(update, vm, |vm, map, update| self::claim(vm, map, update, placement, len))
        }?;
        Ok(())
    })
}

/// Writes the range of a claim to `range`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_claim_range(
    claim: Option<&kvma_claim>,
    range: Option<&mut MaybeUninit<kvma_range>>,
) -> kvma_status {
    ffi_call(|| {
        write_out(range, required(claim)?.claimed.read(|claimed| Ok(claimed.range().into()))?);
        Ok(())
    })
}

/// Makes a VMA of a claimed range, with `attrs` and the user data `data`. It merges with its
/// neighbours as `merge` says. `KVMA_CLAIM_LOST` if a mapping at a fixed address has taken the
/// claim away, or it was committed already. If the call fails, nothing has changed, and `data` is
/// still the caller's. Needs no memory. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_commit_claim(
    vm: *mut kvma_vm,
    claim: Option<&kvma_claim>,
    attrs: Option<&kvma_attrs>,
    data: *mut c_void,
    merge: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let (claim, attrs) = (required(claim)?, required(attrs)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe {
            alone(vm, hooks, |vm, map, update| commit(vm, map, update, claim, attrs, data, merge))
        }
    })
}

/// Does what `kvma_vm_commit_claim` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_commit_claim(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    claim: Option<&kvma_claim>,
    attrs: Option<&kvma_attrs>,
    data: *mut c_void,
    merge: u32,
) -> kvma_status {
    ffi_call(|| {
        let (claim, attrs) = (required(claim)?, required(attrs)?);
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe {
            within(update, vm, |vm, map, update| commit(vm, map, update, claim, attrs, data, merge))
        }
    })
}

/// Gives up what is still claimed, if anything is, and frees the claim. Needs no memory and calls
/// no hook. NULL is fine. If the call fails, the claim is not freed. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_release_claim(
    vm: *mut kvma_vm,
    claim: *mut kvma_claim,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    ffi_call(|| unsafe {
        if claim.is_null() {
            return Ok(());
        }
        alone(vm, ptr::null(), |_, map, update| release(map, update, claim))
    })
}

/// Does what `kvma_vm_release_claim` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_release_claim(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    claim: *mut kvma_claim,
) -> kvma_status {
    // SAFETY: all three are NULL or live handles, as the caller promises.
    ffi_call(|| unsafe {
        if claim.is_null() {
            return Ok(());
        }
        within(update, vm, |_, map, update| release(map, update, claim))
    })
}
