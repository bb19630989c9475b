//! Unmapping: a range, everything, or the VMAs that nobody wants.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use engine::Vma;

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::attrs::kvma_vma;
use crate::boundary::{ffi_call, required, write_out};
use crate::hooks::kvma_hooks;
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// Unmaps `len` bytes from `start`; gaps in the range are fine, as for munmap(2). Writes the number
/// of bytes unmapped to `bytes` (NULL: not wanted); 2^64 is `UINT64_MAX`. Claims stay.
/// O(log n + VMAs removed).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_unmap(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    hooks: *const kvma_hooks,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let gone = unsafe { alone(vm, hooks, |_, map, update| map.unmap(start, len, update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}

/// Does what `kvma_vm_unmap` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_unmap(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: both are NULL or live handles, as the caller promises.
        let gone = unsafe { within(update, vm, |_, map, update| map.unmap(start, len, update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}

/// Unmaps everything, as `kvma_vm_unmap`, but needs no memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_clear(
    vm: *mut kvma_vm,
    hooks: *const kvma_hooks,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let gone = unsafe { alone(vm, hooks, |_, map, update| map.clear(update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}

/// Does what `kvma_vm_clear` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_clear(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: both are NULL or live handles, as the caller promises.
        let gone = unsafe { within(update, vm, |_, map, update| map.clear(update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}

/// Answers whether a VMA stays. Must always answer the same for the same VMA.
pub type kvma_keep_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma) -> bool>;

fn keeper<'a>(
    keep: kvma_keep_fn,
    udata: *mut c_void,
) -> Result<impl Fn(&Vma<'_, UserData>) -> bool + 'a, Failure> {
    let keep = required(keep)?;
    // SAFETY: the function's documentation promises this call, with a VMA that lives for the call.
    Ok(move |vma: &Vma<'_, UserData>| unsafe { keep(udata, &(*vma).into()) })
}

/// Unmaps every VMA that `keep` does not keep, each whole, and writes the number of bytes unmapped
/// to `bytes` (NULL: not wanted). Needs no memory. O(n + removed log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_retain(
    vm: *mut kvma_vm,
    keep: kvma_keep_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let keep = keeper(keep, udata)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        let gone = unsafe { alone(vm, hooks, |_, map, update| map.retain(keep, update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}

/// Does what `kvma_vm_retain` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_retain(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    keep: kvma_keep_fn,
    udata: *mut c_void,
    bytes: Option<&mut MaybeUninit<u64>>,
) -> kvma_status {
    ffi_call(|| {
        let keep = keeper(keep, udata)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        let gone = unsafe { within(update, vm, |_, map, update| map.retain(keep, update)) }?;
        write_out(bytes, gone);
        Ok(())
    })
}
