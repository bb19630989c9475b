//! Changes of page tables that no VMA shows.

use core::ffi::c_void;

use engine::Vma;

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::attrs::kvma_vma;
use crate::boundary::{ffi_call, required};
use crate::hooks::{HookTable, kvma_hooks};
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// Changes the page tables of a VMA.
pub type kvma_vma_fn = Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma)>;

fn editor<'a>(
    edit: kvma_vma_fn,
    udata: *mut c_void,
) -> Result<impl FnMut(&mut HookTable, &Vma<'_, UserData>) + 'a, Failure> {
    let edit = required(edit)?;
    // SAFETY: the documentation of the calls that take the function promises a call for each VMA,
    // which lives for the call.
    Ok(move |_: &mut HookTable, vma: &Vma<'_, UserData>| unsafe { edit(udata, &(*vma).into()) })
}

/// Makes a change of page tables that no VMA shows: pages become copy-on-write, pages are given
/// back. Calls `edit` with each VMA that shares a byte with `len` bytes from `start`, whole and
/// ascending. A flush follows if there was any. O(log n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_invalidate(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    edit: kvma_vma_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let edit = editor(edit, udata)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { alone(vm, hooks, |_, map, update| map.invalidate(start, len, update, edit)) }
    })
}

/// Does what `kvma_vm_invalidate` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_invalidate(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    edit: kvma_vma_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let edit = editor(edit, udata)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe { within(update, vm, |_, map, update| map.invalidate(start, len, update, edit)) }
    })
}
