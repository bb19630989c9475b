//! Changing the user data of a VMA.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use super::handle::kvma_vm;
use crate::boundary::{ffi_call, handle, required, write_out};
use crate::status::kvma_status;
use crate::user_data::UserData;

/// Returns the pointer that takes the place of `data`.
pub type kvma_data_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, data: *mut c_void) -> *mut c_void>;

/// Replaces the user data of the VMA that holds `addr` by what `change` returns. Splits and merges
/// nothing, and calls no hook and none of the `kvma_data_ops`. `KVMA_NOT_MAPPED` if there is no
/// VMA. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_update_data(
    vm: *mut kvma_vm,
    addr: u64,
    change: kvma_data_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let change = required(change)?;
        let replace = |data: &mut UserData| {
            // SAFETY: the function's documentation promises this call, with the pointer of the
            // VMA.
            let pointer = unsafe { change(udata, data.pointer()) };
            data.replace(pointer);
        };
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { handle(vm) }?.map.write(|map| Ok(map.update_data(addr, replace)?))
    })
}

/// Replaces the user data of the VMA that holds `addr` by `data`, and writes what was there to
/// `old` (NULL: not wanted). Otherwise as `kvma_vm_update_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_set_data(
    vm: *mut kvma_vm,
    addr: u64,
    data: *mut c_void,
    old: Option<&mut MaybeUninit<*mut c_void>>,
) -> kvma_status {
    ffi_call(|| {
        let replace = |have: &mut UserData| have.replace(data);
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let was = unsafe { handle(vm) }?.map.write(|map| Ok(map.update_data(addr, replace)?))?;
        write_out(old, was);
        Ok(())
    })
}
