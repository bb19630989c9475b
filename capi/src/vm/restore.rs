//! Going back to a state of before, and unmapping what nobody wants.

use super::Map;
use super::change::{alone, within};
use super::kvma_vm;
use super::query::look;
use super::update::kvma_update;
use crate::alloc::Memory;
use crate::attrs::kvma_vma;
use crate::boundary::{call, given, tell};
use crate::data::Data;
use crate::hooks::kvma_hooks;
use crate::status::{Failure, kvma_status};
use core::ffi::c_void;
use engine::{Hooks, Update, Vma};

/// Whether a VMA of now and one of then, which overlap, show the same mapping, so that the pages
/// which are there may stay. Must always answer the same.
pub type kvma_same_fn = Option<
    unsafe extern "C" fn(udata: *mut c_void, now: *const kvma_vma, then: *const kvma_vma) -> bool,
>;

/// Whether a VMA stays. Must always answer the same.
pub type kvma_keep_fn =
    Option<unsafe extern "C" fn(udata: *mut c_void, vma: *const kvma_vma) -> bool>;

/// The caller's answer; without a function, whether the owner's data is the same pointer.
fn same<'a>(
    same: kvma_same_fn,
    udata: *mut c_void,
) -> impl Fn(&Vma<'_, Data>, &Vma<'_, Data>) -> bool + 'a {
    move |now, then| match same {
        // SAFETY: the owner's function, called as its documentation says.
        Some(same) => unsafe { same(udata, &(*now).into(), &(*then).into()) },
        None => now.data().pointer() == then.data().pointer(),
    }
}

fn keep<'a>(
    keep: kvma_keep_fn,
    udata: *mut c_void,
) -> Result<impl Fn(&Vma<'_, Data>) -> bool + 'a, Failure> {
    let keep = keep.ok_or(Failure::Null)?;
    // SAFETY: as in `same`.
    Ok(move |vma: &Vma<'_, Data>| unsafe { keep(udata, &(*vma).into()) })
}

fn restore<H: Hooks<Data>>(
    map: &mut Map,
    update: &mut Update<'_, Data, Memory, H>,
    saved: &kvma_vm,
    is_same: impl Fn(&Vma<'_, Data>, &Vma<'_, Data>) -> bool,
) -> Result<(), Failure> {
    saved.map.read(|saved| Ok(map.restore(saved, is_same, update)?))
}

/// Makes `vm` equal to `saved`, an earlier `kvma_vm_fork` of it: boundaries and attributes of all
/// VMAs, those included that were unmapped or replaced since. What comes back has a `fork` of the
/// saved owner's data; what stays keeps its own. `same_mapping` may be NULL: where the owner's data
/// is the same pointer.
///
/// The hooks hear what is to be undone: first `unmap` for what must go, then `protect` for what
/// stays with other attributes, then `map` for what comes back, each ascending. Contents are the
/// owner's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_restore(
    vm: *mut kvma_vm,
    saved: *const kvma_vm,
    same_mapping: kvma_same_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
) -> kvma_status {
    call(|| {
        // SAFETY: the contract of all functions (crate docs); so below.
        unsafe {
            let saved = given(saved)?;
            alone(vm, hooks, |map, up| restore(map, up, saved, same(same_mapping, udata)))
        }
    })
}

/// `kvma_vm_restore` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_restore(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    saved: *const kvma_vm,
    same_mapping: kvma_same_fn,
    udata: *mut c_void,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let saved = given(saved)?;
            within(update, vm, |map, up| restore(map, up, saved, same(same_mapping, udata)))
        }
    })
}

/// Nodes that `kvma_vm_restore` may need, to `nodes`. O(n + m).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_restore_cost(
    vm: *const kvma_vm,
    saved: *const kvma_vm,
    same_mapping: kvma_same_fn,
    udata: *mut c_void,
    nodes: *mut usize,
) -> kvma_status {
    call(|| {
        // SAFETY: see above.
        unsafe {
            let cost = look(vm, |map| {
                look(saved, |saved| Ok(map.restore_cost(saved, same(same_mapping, udata))))
            })?;
            tell(nodes, cost);
        }
        Ok(())
    })
}

/// Unmaps every VMA that `wanted` does not want, each whole; the number of pages removed goes to
/// `pages` (NULL: not wanted). Needs no memory. O(n + removed log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_retain(
    vm: *mut kvma_vm,
    wanted: kvma_keep_fn,
    udata: *mut c_void,
    hooks: *const kvma_hooks,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        let wanted = keep(wanted, udata)?;
        // SAFETY: see above.
        unsafe { tell(pages, alone(vm, hooks, |map, up| Ok(map.retain(wanted, up)?))?) };
        Ok(())
    })
}

/// `kvma_vm_retain` within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_retain(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    wanted: kvma_keep_fn,
    udata: *mut c_void,
    pages: *mut u64,
) -> kvma_status {
    call(|| {
        let wanted = keep(wanted, udata)?;
        // SAFETY: see above.
        unsafe { tell(pages, within(update, vm, |map, up| Ok(map.retain(wanted, up)?))?) };
        Ok(())
    })
}
