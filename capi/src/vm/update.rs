//! One change of a map in several calls: preallocated nodes, the hooks, and what is owed
//! afterwards.

use core::mem::MaybeUninit;

use engine::Update;

use super::handle::{Map, kvma_vm};
use crate::alloc::{HandleSlot, Memory};
use crate::boundary::{ffi_call, ffi_call_or, free_handle, handle, out_handle, required};
use crate::hooks::{HookTable, kvma_hooks};
use crate::kept_nodes::VmaSource;
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;
use crate::user_data::UserData;

pub(super) type MapUpdate<'h> = Update<'h, UserData, VmaSource<UserData>, HookTable>;

/// Carries nodes and hooks into one or several calls on a map, and out of them the work that must
/// wait until the caller's lock is released: the rest of the TLB flush, then dropping what was
/// removed, then giving memory back. Opaque.
pub struct kvma_update {
    update: StoredUpdate<UserData, HookTable>,
    memory: Memory,
}

/// Runs a change that is finished when the call returns. While it is finished, others may read the
/// map.
///
/// # Errors
///
/// `Null`, `Busy`, and what `change` answers.
///
/// # Safety
///
/// `vm` is NULL or a live handle, and `hooks` is NULL or a table.
pub(super) unsafe fn alone<R>(
    vm: *mut kvma_vm,
    hooks: *const kvma_hooks,
    change: impl FnOnce(&kvma_vm, &mut Map, &mut MapUpdate<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: this function's contract.
    let (vm, hooks) = unsafe { (handle(vm)?, &mut HookTable::new(hooks)?) };
    vm.map.write_then(|map| map.update(hooks), |map, update| change(vm, map, update))
}

/// Runs a change that is a part of an update.
///
/// # Errors
///
/// `Null`, `Busy`, and what `change` answers.
///
/// # Safety
///
/// `update` and `vm` are NULL or live handles.
pub(super) unsafe fn within<R>(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    change: impl FnOnce(&kvma_vm, &mut Map, &mut MapUpdate<'static>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    // SAFETY: this function's contract.
    let (update, vm) = unsafe { (handle(update)?, handle(vm)?) };
    update.update.write(|update| vm.map.write(|map| change(vm, map, update)))
}

/// Begins an update of `vm` with `hooks` (NULL: none) and `nodes` preallocated nodes, so that calls
/// which need no more do not allocate; a call on a range needs at most 3. Writes the handle to
/// `update`; NULL if the call fails. Call it before taking the lock that guards the map.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_new(
    update: Option<&mut MaybeUninit<*mut kvma_update>>,
    vm: Option<&kvma_vm>,
    hooks: *const kvma_hooks,
    nodes: usize,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(update)?;
        let &kvma_vm { memory, source, page, .. } = required(vm)?;
        // SAFETY: `hooks` is NULL or a table, as the caller promises.
        let hooks = unsafe { HookTable::new(hooks) }?;
        let update = StoredUpdate::new(source, page, hooks, nodes)?;
        *out = HandleSlot::new(memory)?.fill(kvma_update { update, memory });
        Ok(())
    })
}

/// Preallocates nodes until the update has `nodes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_preallocate(
    update: *mut kvma_update,
    nodes: usize,
) -> kvma_status {
    ffi_call(|| {
        // SAFETY: `update` is NULL or a live update, as the caller promises.
        let handle = unsafe { handle(update) }?;
        handle.update.write(|update| Ok(update.preallocate(nodes)?))
    })
}

/// Returns the number of VMAs and parts of VMAs that the update has removed so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_removed(update: Option<&kvma_update>) -> usize {
    ffi_call_or(0, || {
        let removed = |handle: &kvma_update| handle.update.read(|update| Ok(update.removed()));
        required(update).and_then(removed).unwrap_or(0)
    })
}

/// Does the work that is owed and frees the update: waits for the flush, drops what was removed,
/// gives memory back. Call it after releasing the lock. NULL is fine. `KVMA_BUSY` if the update is
/// in use or is being finished already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_finish(update: *mut kvma_update) -> kvma_status {
    // SAFETY: `update` is NULL or a live update, as the caller promises; it came from a
    // `HandleSlot` of its memory, and `StoredUpdate::finish` succeeds once.
    ffi_call(|| unsafe {
        free_handle(update, |update| update.memory, |update| update.update.finish())
    })
}
