//! Ranges that are held while their owner works without the lock; page tables that are edited
//! without a change of the map; VMAs that go to another map.

use super::change::{alone, within};
use super::update::kvma_update;
use super::{Map, kvma_vm};
use crate::alloc::Memory;
use crate::attrs::{kvma_attrs, kvma_range, kvma_vma};
use crate::boundary::{call, given, tell};
use crate::data::{Data, kvma_data_ops};
use crate::hooks::{Table, kvma_hooks};
use crate::request::{kvma_request, merge};
use crate::status::{Failure, kvma_status};
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use engine::{Error, Hold, Hooks, Update};

/// A range that is held. Opaque. To be given to `kvma_vm_release` in the end, fulfilled or not.
pub struct kvma_hold {
    hold: Hold,
    memory: Memory,
}

/// What is done with each VMA that a disturbance touches.
pub type kvma_vma_fn = Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma)>;

fn reserve<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    request: &kvma_request,
    ops: *const kvma_data_ops,
) -> Result<*mut kvma_hold, Failure> {
    let memory = *map.alloc();
    // UnmappedAreaInfo for the handle first: from the reservation on, there is something to be
    // undone.
    let room = memory.get::<kvma_hold>().ok_or(Error::OutOfMemory)?;
    // SAFETY: `ops` is the map's own, which lives as long as the map by the caller's charge.
    let data = unsafe { Data::new(request.data, ops) };
    let held =
        request.placement().and_then(|place| Ok(map.reserve(place, request.len, data, update)?));
    match held {
        Ok(hold) => {
            map.update_data(hold.range().start(), Data::take)?;
            // SAFETY: room for one, and ours alone.
            unsafe { room.write(kvma_hold { hold, memory }) };
            Ok(room.as_ptr())
        }
        Err(fail) => {
            // SAFETY: from `get`, and nothing is in it.
            unsafe { memory.put(room) };
            Err(fail)
        }
    }
}

fn fulfil<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    held: &kvma_hold,
    attrs: kvma_attrs,
    (data, ops): (*mut c_void, *const kvma_data_ops),
    merge_with: u32,
) -> Result<(), Failure> {
    // SAFETY: as in `reserve`.
    let mut data = unsafe { Data::new(data, ops) };
    map.fulfil(&held.hold, attrs.into(), &mut data, merge(merge_with)?, update)?;
    map.update_data(held.hold.range().start(), Data::take)?;
    Ok(())
}

/// Gives up what is held, and frees the handle if that succeeds.
///
/// # Safety
///
/// A handle that has not been freed.
unsafe fn give_up<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    hold: NonNull<kvma_hold>,
) -> Result<(), Failure> {
    const {
        assert!(
            !core::mem::needs_drop::<Hold>(),
            "the one in the handle is used again if this one fails"
        )
    };
    // SAFETY: from `reserve`; if it is freed, nobody uses it any more.
    unsafe {
        let kvma_hold { hold: inner, memory } = hold.read();
        map.release(inner, update)?;
        memory.put(hold);
    }
    Ok(())
}

/// Chooses a range as `request` says (place, search, length, owner's data) and holds it, for work
/// that is to be done without the lock; then `kvma_vm_fulfil` it if all went well, and
/// `kvma_vm_release` it in any case. Nobody else gets the range, it cannot be faulted or protected,
/// and hooks do not hear of it. Unmapping and replacing it take it away from its holder. What
/// `KVMA_FIXED` replaces is unmapped now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_reserve(
    vm: *mut kvma_vm,
    request: *const kvma_request,
    hooks: *const kvma_hooks,
    hold: *mut *mut kvma_hold,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        unsafe {
            let place = hold.as_mut().ok_or(Failure::Null)?;
            *place = null_mut();
            let (request, ops) = (given(request)?, given(vm)?.ops);
            *place = alone(vm, hooks, |map, up| reserve(map, up, request, ops))?;
        }
        Ok(())
    })
}

/// `kvma_vm_reserve` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_reserve_range(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    request: *const kvma_request,
    hold: *mut *mut kvma_hold,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let place = hold.as_mut().ok_or(Failure::Null)?;
            *place = null_mut();
            let (request, ops) = (given(request)?, given(vm)?.ops);
            *place = within(update, vm, |map, up| reserve(map, up, request, ops))?;
        }
        Ok(())
    })
}

/// What a hold holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_hold_range(
    hold: *const kvma_hold,
    range: *mut kvma_range,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe { tell(range, given(hold)?.hold.range().into()) };
        Ok(())
    })
}

/// Makes a VMA of what is held, with `attrs` and `data`; what the reservation had for data is
/// dropped. It is joined with its neighbours as `merge` says. `KVMA_NOT_MAPPED` if the range, or a
/// part of it, has been unmapped or replaced meanwhile. If it fails, nothing has happened, and
/// `data` is still the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_fulfil(
    vm: *mut kvma_vm,
    hold: *const kvma_hold,
    attrs: *const kvma_attrs,
    data: *mut c_void,
    merge: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let (hold, attrs, ops) = (given(hold)?, *given(attrs)?, given(vm)?.ops);
            alone(vm, hooks, |map, up| fulfil(map, up, hold, attrs, (data, ops), merge))
        }
    })
}

/// `kvma_vm_fulfil` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_fulfil(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    hold: *const kvma_hold,
    attrs: *const kvma_attrs,
    data: *mut c_void,
    merge: u32,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let (hold, attrs, ops) = (given(hold)?, *given(attrs)?, given(vm)?.ops);
            within(update, vm, |map, up| fulfil(map, up, hold, attrs, (data, ops), merge))
        }
    })
}

/// Gives up what is still held, if anything is, and frees the hold. Needs no memory, calls no hook.
/// NULL is fine. If it fails the hold has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_release(vm: *mut kvma_vm, hold: *mut kvma_hold) -> kvma_status {
    call(|| {
        let Some(hold) = NonNull::new(hold) else { return Ok(()) };
        // SAFETY: see above.
        unsafe { alone(vm, core::ptr::null(), |map, up| give_up(map, up, hold)) }
    })
}

/// `kvma_vm_release` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_release(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    hold: *mut kvma_hold,
) -> kvma_status {
    call(|| {
        let Some(hold) = NonNull::new(hold) else { return Ok(()) };
        // SAFETY: see above.
        unsafe { within(update, vm, |map, up| give_up(map, up, hold)) }
    })
}

/// For a change of page tables that no VMA shows: marking pages copy-on-write, giving pages back.
/// Calls `edit` with each VMA that shares a byte with `len` bytes from `start`, whole, ascending; a
/// flush follows if there was any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_invalidate(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    edit: kvma_vma_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    call(|| {
        let edit = edit.ok_or(Failure::Null)?;
        // SAFETY: see above; the owner's function, called as its documentation says.
        unsafe {
            alone(vm, hooks, |map, up| {
                let edit = |_: &mut Table, vma: &engine::Vma<'_, Data>| edit(udata, &(*vma).into());
                Ok(map.invalidate(start, len, up, edit)?)
            })
        }
    })
}

/// `kvma_vm_invalidate` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_invalidate(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    edit: kvma_vma_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        let edit = edit.ok_or(Failure::Null)?;
        // SAFETY: as above.
        unsafe {
            within(update, vm, |map, up| {
                let edit = |_: &mut Table, vma: &engine::Vma<'_, Data>| edit(udata, &(*vma).into());
                Ok(map.invalidate(start, len, up, edit)?)
            })
        }
    })
}

/// Moves the VMAs in `len` bytes from `from` into `target`, to `to`: attributes, offsets and the
/// owner's data, whose functions stay those of `vm`. Holes stay holes. The target must be free, and
/// pages of one size. Each map has hooks of its own: `unmap` here, `map` there. `merge` is
/// `KVMA_MERGE_BOTH` or the like.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_transfer(
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    hooks: *const kvma_hooks,
    target: *mut kvma_vm,
    to: u64,
    merge: u32,
    target_hooks: *const kvma_hooks,
) -> kvma_status {
    call(|| {
        let merge = crate::request::merge(merge)?;
        // SAFETY: see above.
        unsafe {
            alone(vm, hooks, |map, up| {
                alone(target, target_hooks, |target, target_up| {
                    Ok(map.transfer(from, len, up, target, to, merge, target_up)?)
                })
            })
        }
    })
}

/// `kvma_vm_transfer` within an update of each map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_transfer(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    from: u64,
    len: u64,
    target_update: *mut kvma_update,
    target: *mut kvma_vm,
    to: u64,
    merge: u32,
) -> kvma_status {
    call(|| {
        let merge = crate::request::merge(merge)?;
        // SAFETY: see above.
        unsafe {
            within(update, vm, |map, up| {
                within(target_update, target, |target, target_up| {
                    Ok(map.transfer(from, len, up, target, to, merge, target_up)?)
                })
            })
        }
    })
}
