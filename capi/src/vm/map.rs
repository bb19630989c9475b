//! Mapping, and taking over what is mapped already.

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::ptr::null_mut;

use engine::VmRange;
use engine::linux::maps::AdoptError;

use super::handle::{Map, kvma_vm};
use super::update::{MapUpdate, alone, kvma_update, within};
use crate::attrs::{kvma_attrs, kvma_range};
use crate::boundary::{ffi_call, handle, required, write_out};
use crate::hooks::kvma_hooks;
use crate::proc_maps::kvma_maps_line;
use crate::request::kvma_request;
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

fn map(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    request: &kvma_request,
) -> Result<u64, Failure> {
    // SAFETY: the table is the map's own, which lives as long as the map; the data does not live
    // longer.
    let request = unsafe { request.with_user_data(vm.ops) }?;
    let addr = map.map(request, update)?;
    if UserData::has_to_be_taken(vm.ops) {
        map.update_data(addr, UserData::take)?;
    }
    Ok(addr)
}

/// Maps what `request` asks for, and writes the address to `addr` (NULL: not wanted). The new VMA
/// merges with its neighbours where attributes, offsets and user data allow. O(log n + VMAs
/// replaced).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_map(
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    hooks: *const kvma_hooks,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let request = required(request)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let at = unsafe { alone(vm, hooks, |vm, vmas, update| map(vm, vmas, update, request)) }?;
        write_out(addr, at);
        Ok(())
    })
}

/// Does what `kvma_vm_map` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_map(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let request = required(request)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        let at = unsafe { within(update, vm, |vm, vmas, update| map(vm, vmas, update, request)) }?;
        write_out(addr, at);
        Ok(())
    })
}

/// Makes the user data of a VMA for the range that was chosen for it.
pub type kvma_make_data_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, range: *const kvma_range) -> *mut c_void>;

fn map_with(
    vm: &kvma_vm,
    map: &mut Map,
    update: &mut MapUpdate<'_>,
    request: &kvma_request,
    (make, udata): (kvma_make_data_fn, *mut c_void),
) -> Result<u64, Failure> {
    let make = required(make)?;
    let data = |range: VmRange| {
        // SAFETY: the function's documentation promises this call, with a range that lives for the
        // call.
        let pointer = unsafe { make(udata, &range.into()) };
        // SAFETY: the table is the map's own, which lives as long as the map; the data does not
        // live longer.
        unsafe { UserData::taken(pointer, vm.ops) }
    };
    map.map_with(request.to_map_request()?, data, update)
}

/// Maps as `kvma_vm_map` does, with user data that `make` makes once the range is known, in place
/// of the request's. If the call fails after that, the data is dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_map_with(
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    make: kvma_make_data_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let request = required(request)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let at = unsafe {
            alone(vm, hooks, |vm, map, update| map_with(vm, map, update, request, (make, udata)))
        }?;
        write_out(addr, at);
        Ok(())
    })
}

/// Does what `kvma_vm_map_with` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_map_with(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    make: kvma_make_data_fn,
    udata: *mut c_void,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let request = required(request)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        let at = unsafe {
            within(update, vm, |vm, map, update| map_with(vm, map, update, request, (make, udata)))
        }?;
        write_out(addr, at);
        Ok(())
    })
}

/// Takes over a range that is mapped already: as `kvma_vm_map`, but without hooks, and with
/// `KVMA_FIXED` nothing is replaced (`KVMA_OVERLAP`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_adopt(
    vm: *mut kvma_vm,
    request: Option<&kvma_request>,
    addr: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let request = required(request)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let vm = unsafe { handle(vm) }?;
        let at = vm.map.write(|map| {
            // SAFETY: the table is the map's own, which lives as long as the map; the data does
            // not live longer.
            let at = map.adopt(unsafe { request.with_user_data(vm.ops) }?)?;
            map.update_data(at, UserData::take)?;
            Ok(at)
        })?;
        write_out(addr, at);
        Ok(())
    })
}

/// Returns the user data for a line. May change `attrs`, which hold what the line says: protection,
/// `KVMA_SHARED`, and where there is an inode the object of that number.
pub type kvma_adopt_fn = Option<
    unsafe extern "C" fn(
        udata: *mut c_void,
        line: *const kvma_maps_line,
        attrs: *mut kvma_attrs,
    ) -> *mut c_void,
>;

/// Fills the empty map with the VMAs of a `/proc/PID/maps` file, `text`, boundary for boundary and
/// without hooks. VMAs wholly outside the space are passed over. `adopt` may be NULL: attributes as
/// the lines say, and no user data.
///
/// If the call fails the map is still empty, `adopt` has not been called, and `line` (NULL: not
/// wanted) is the number of the line that is wrong, counted from 1, or 0 if it was none.
/// `KVMA_NOT_EMPTY` for a map that is not empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_adopt_maps(
    vm: *mut kvma_vm,
    text: *const c_char,
    adopt: kvma_adopt_fn,
    udata: *mut c_void,
    line: Option<&mut MaybeUninit<usize>>,
) -> kvma_status {
    let mut wrong = 0;
    let status = ffi_call(|| {
        if text.is_null() {
            return Err(Failure::Null);
        }
        // SAFETY: `vm` is NULL or a live map, and `text` a string that ends with a NUL, as the
        // caller promises.
        let (vm, text) = unsafe { (handle(vm)?, CStr::from_ptr(text)) };
        let adopted = vm.map.write(|map| {
            Ok(map.adopt_maps_bytes(text.to_bytes(), |line, attrs| {
                let mut attrs = kvma_attrs::from(attrs);
                let line = kvma_maps_line::from(line);
                // SAFETY: the function's documentation promises this call; the line and the
                // attributes live for the call.
                let data = adopt.map_or(null_mut(), |adopt| unsafe {
                    adopt(udata, &raw const line, &raw mut attrs)
                });
                // SAFETY: the table is the map's own, which lives as long as the map; the data
                // does not live longer.
                (attrs.into(), unsafe { UserData::taken(data, vm.ops) })
            }))
        })?;
        match adopted {
            Ok(_) => Ok(()),
            Err(AdoptError::Line(number, _)) => {
                wrong = number;
                Err(Failure::Argument)
            }
            Err(AdoptError::Vma(number, error)) => {
                wrong = number;
                Err(error.into())
            }
            Err(AdoptError::Map(error)) => Err(error.into()),
            Err(_) => Err(Failure::Internal),
        }
    });
    write_out(line, wrong);
    status
}
