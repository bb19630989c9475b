//! Going back to an earlier state.

use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr;

use engine::{Error, Vma};

use super::handle::{kvma_vm, read};
use super::update::{alone, kvma_update, within};
use crate::attrs::kvma_vma;
use crate::boundary::{ffi_call, required, write_out};
use crate::hooks::kvma_hooks;
use crate::status::{Failure, kvma_status};
use crate::user_data::UserData;

/// Answers whether a VMA of now and a saved one, which overlap, are of the same mapping, so that
/// the pages which are there may stay. Must always answer the same for the same VMAs.
pub type kvma_same_fn = Option<
    unsafe extern "C" fn(udata: *mut c_void, now: *const kvma_vma, saved: *const kvma_vma) -> bool,
>;

/// Returns the caller's answer; without a function, whether the user data is the same pointer.
fn is_same<'a>(
    same: kvma_same_fn,
    udata: *mut c_void,
) -> impl Fn(&Vma<'_, UserData>, &Vma<'_, UserData>) -> bool + 'a {
    move |now, saved| match same {
        // SAFETY: the function's documentation promises this call, with VMAs that live for the
        // call.
        Some(same) => unsafe { same(udata, &(*now).into(), &(*saved).into()) },
        None => now.data().pointer() == saved.data().pointer(),
    }
}

/// Checks that a map goes back to another one.
fn other_map(vm: *const kvma_vm, saved: Option<&kvma_vm>) -> Result<&kvma_vm, Failure> {
    let saved = required(saved)?;
    if ptr::eq(vm, saved) { Err(Error::SameSpace.into()) } else { Ok(saved) }
}

/// Makes `vm` equal to `saved`, an earlier `kvma_vm_fork` of it: boundaries and attributes of all
/// VMAs, including those that were unmapped or replaced since. What comes back has a `fork` of the
/// saved user data, and what stays keeps its own. `same` may be NULL: mappings are the same where
/// the user data is the same pointer.
///
/// The hooks hear what is to be undone: first `on_unmap` for what must go, then `on_protect` for
/// what stays with other attributes, then `on_map` for what comes back, each ascending. The
/// contents are the kernel's. `KVMA_SPACE_MISMATCH` if the maps cover different ranges or differ in
/// page size, `KVMA_CLAIMED` if a claim lies where a VMA is to come back. O(n + m + steps log n)
/// for n VMAs now and m saved ones.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_restore(
    vm: *mut kvma_vm,
    saved: Option<&kvma_vm>,
    same: kvma_same_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let saved = other_map(vm, saved)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe {
            alone(vm, hooks, |_, map, update| {
                saved.map.read(|saved| map.restore(saved, is_same(same, udata), update))
            })
        }
    })
}

/// Does what `kvma_vm_restore` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_restore(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    saved: Option<&kvma_vm>,
    same: kvma_same_fn,
    udata: *mut c_void,
) -> kvma_status {
    ffi_call(|| {
        let saved = other_map(vm, saved)?;
        // SAFETY: `update` and `vm` are NULL or live handles, as the caller promises.
        unsafe {
            within(update, vm, |_, map, update| {
                saved.map.read(|saved| map.restore(saved, is_same(same, udata), update))
            })
        }
    })
}

/// Writes the number of nodes that `kvma_vm_restore` may need to `nodes`. O(n + m).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_restore_cost(
    vm: Option<&kvma_vm>,
    saved: Option<&kvma_vm>,
    same: kvma_same_fn,
    udata: *mut c_void,
    nodes: Option<&mut MaybeUninit<usize>>,
) -> kvma_status {
    ffi_call(|| {
        let cost =
            read(vm, |map| read(saved, |saved| Ok(map.restore_cost(saved, is_same(same, udata)))))?;
        write_out(nodes, cost);
        Ok(())
    })
}
