//! Claims: ranges that are held without being mapped, while slow work goes on.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::{Hold, Hooks, Update};

use super::handle::{Map, kvma_vm};
use super::update::{alone, kvma_update, within};
use crate::alloc::{HandleSlot, Memory};
use crate::attrs::{kvma_attrs, kvma_range};
use crate::boundary::{ffi_call, free_handle, out_handle, required, write_out};
use crate::cell::BusyCell;
use crate::hooks::kvma_hooks;
use crate::request::{kvma_request, to_merge};
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// A range that is claimed. Opaque. In the end it is given to `kvma_vm_release_claim`, committed or
/// not.
pub struct kvma_claim {
    claim: BusyCell<Hold>,
    memory: Memory,
}

fn claim<H: Hooks<UserData>>(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut Update<'_, UserData, Memory, H>,
    request: &kvma_request,
) -> Result<*mut kvma_claim, Failure> {
    let placement = request.placement()?;
    let slot = HandleSlot::new(vm.memory)?;
    // SAFETY: the table is the map's own, which lives as long as the map; the data does not live
    // longer.
    let data = unsafe { UserData::new(request.data, vm.ops) };
    let claim = map.reserve(placement, request.len, data, update)?;
    map.update_data(claim.range().start(), UserData::take)?;
    Ok(slot.fill(kvma_claim { claim: BusyCell::new(claim), memory: vm.memory }))
}

fn commit<H: Hooks<UserData>>(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut Update<'_, UserData, Memory, H>,
    claim: &kvma_claim,
    attrs: &kvma_attrs,
    data: *mut c_void,
    merge: u32,
) -> Result<(), Failure> {
    let merge = to_merge(merge)?;
    // SAFETY: the table is the map's own, which lives as long as the map; the data does not live
    // longer.
    let mut data = unsafe { UserData::new(data, vm.ops) };
    claim.claim.read(|claim| {
        map.fulfil(claim, (*attrs).into(), &mut data, merge, update)?;
        map.update_data(claim.range().start(), UserData::take)?;
        Ok(())
    })
}

/// Gives up what is still claimed, and frees the handle if that succeeds.
///
/// # Safety
///
/// `claim` is NULL or a live handle.
unsafe fn release<H: Hooks<UserData>>(
    map: &mut Map,
    update: &mut Update<'_, UserData, Memory, H>,
    claim: *mut kvma_claim,
) -> Result<(), Failure> {
    const { assert!(!core::mem::needs_drop::<Hold>(), "it is copied bit by bit below") };
    let close = |handle: &kvma_claim| {
        // SAFETY: the claim has nothing to drop, so a second copy does no harm; it is used up
        // here, and the one in the handle only if this fails.
        handle.claim.write(|claim| Ok(map.release(unsafe { core::ptr::read(claim) }, update)?))?;
        handle.claim.close().map(drop)
    };
    // SAFETY: it is NULL or a live claim, by this function's contract, and came from a `HandleSlot`
    // of its memory; `BusyCell::close` succeeds once.
    unsafe { free_handle(claim, |claim| claim.memory, close) }
}

/// Chooses a range as `request` says (placement, search, length, user data) and claims it, for work
/// that is done without the lock. When that went well, `kvma_vm_commit_claim` makes a VMA of it;
/// `kvma_vm_release_claim` comes last in any case. Writes the handle to `claim`; NULL if the call
/// fails.
///
/// Nobody else gets the range, it cannot be faulted or protected, and hooks do not hear of it.
/// Unmapping and replacing it take it away from its holder. What `KVMA_FIXED` replaces is unmapped
/// now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_claim(
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    hooks: Option<&kvma_hooks>,
    claim: Option<&mut MaybeUninit<*mut kvma_claim>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, request) = (out_handle(claim)?, required(request)?);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        *out =
            unsafe { alone(vm, hooks, |vm, map, update| self::claim(vm, map, update, request)) }?;
        Ok(())
    })
}

/// Does what `kvma_vm_claim` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_claim(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    claim: Option<&mut MaybeUninit<*mut kvma_claim>>,
) -> kvma_status {
    ffi_call(|| {
        let (out, request) = (out_handle(claim)?, required(request)?);
        // SAFETY: both are NULL or live handles, as the caller promises.
        *out =
            unsafe { within(update, vm, |vm, map, update| self::claim(vm, map, update, request)) }?;
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
        write_out(range, required(claim)?.claim.read(|claim| Ok(claim.range().into()))?);
        Ok(())
    })
}

/// Makes a VMA of a claimed range, with `attrs` and `data`; the user data that came with the claim
/// is dropped. It merges with its neighbours as `merge` says. `KVMA_NOT_MAPPED` if the range, or a
/// part of it, has been unmapped or replaced meanwhile. If the call fails, nothing has changed, and
/// `data` is still the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_commit_claim(
    vm: *mut kvma_vm,
    claim: Option<&kvma_claim>,
    attrs: Option<&kvma_attrs>,
    data: *mut c_void,
    merge: u32,
    hooks: Option<&kvma_hooks>,
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
/// no hook. NULL is fine. If the call fails, the claim is not freed.
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
        alone(vm, None, |_, map, update| release(map, update, claim))
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
