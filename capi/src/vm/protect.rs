//! Changing the protection and the other attributes of what is mapped.

use core::ffi::c_void;

use engine::{Attrs, Vma};

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::attrs::{kvma_attrs, kvma_vma};
use crate::boundary::{ffi_call, required};
use crate::hooks::kvma_hooks;
use crate::request::to_prot;
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// Changes the protection of `len` bytes from `start` to `prot` (`KVMA_READ`, `KVMA_WRITE`,
/// `KVMA_EXEC`). All of them must be mapped, as for mprotect(2): else `KVMA_NOT_MAPPED`. O(log n +
/// VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_protect(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let prot = to_prot(prot)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { alone(vm, hooks, |_, map, update| map.protect(start, len, prot, update)) }
    })
}

/// Does what `kvma_vm_protect` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_protect(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    prot: u32,
) -> kvma_status {
    ffi_call(|| {
        let prot = to_prot(prot)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe { within(update, vm, |_, map, update| map.protect(start, len, prot, update)) }
    })
}

/// Returns the attributes that a VMA is to have. Gets the whole VMA and answers for all of it; is
/// called several times, and must always return the same for the same VMA.
pub type kvma_attrs_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma) -> kvma_attrs>;

fn attrs_of<'a>(
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
) -> Result<impl Fn(&Vma<'_, UserData>) -> Attrs + 'a, Failure> {
    let attrs = required(attrs)?;
    // SAFETY: the function's documentation promises this call, with a VMA that lives for the call.
    Ok(move |vma: &Vma<'_, UserData>| Attrs::from(unsafe { attrs(udata, &(*vma).into()) }))
}

/// Gives each VMA in `len` bytes from `start` the attributes that `attrs` returns for it. Gaps are
/// passed over. VMAs whose attributes stay are neither split nor merged. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_update_attrs(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let new = attrs_of(attrs, udata)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { alone(vm, hooks, |_, map, update| map.update_attrs(start, len, new, update)) }
    })
}

/// Does what `kvma_vm_update_attrs` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_attrs(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    attrs: kvma_attrs_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let new = attrs_of(attrs, udata)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe { within(update, vm, |_, map, update| map.update_attrs(start, len, new, update)) }
    })
}
