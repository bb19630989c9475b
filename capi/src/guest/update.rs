//! Changes of a guest: preallocated nodes, the hooks, and what is owed afterwards.

use core::mem::MaybeUninit;

use engine::Update;
use engine::guest::Refusal;

use super::handle::{GuestMemory, SlotData, kvma_guest};
use crate::alloc::{HandleSlot, Memory};
use crate::boundary::{ffi_call, free_handle, handle, out_handle, required, write_out};
use crate::hooks::{HookTable, kvma_hooks};
use crate::kept_nodes::VmaSource;
use crate::status::{Failure, kvma_status};
use crate::stored_update::StoredUpdate;

pub(super) type GuestUpdate = Update<'static, SlotData, VmaSource<SlotData>, HookTable>;

/// Carries nodes and hooks into one or several changes of a guest, which are one change with one
/// flush, and out of them the work that must wait until the caller's lock is released: the rest of
/// the TLB flush, and giving memory back. Opaque.
pub struct kvma_guest_update {
    update: StoredUpdate<SlotData, HookTable>,
    memory: Memory,
}

/// Makes a change that is a part of an update.
///
/// # Errors
///
/// `Null`, `Busy`, and what `change` answers.
///
/// # Safety
///
/// `update` and `guest` are NULL or live handles.
pub(super) unsafe fn within<R, F: Into<Failure>>(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    change: impl FnOnce(&mut GuestMemory, &mut GuestUpdate) -> Result<R, F>,
) -> Result<R, Failure> {
    // SAFETY: this function's contract.
    let (update, guest) = unsafe { (handle(update)?, handle(guest)?) };
    update
        .update
        .write(|update| guest.guest.write(|guest| change(guest, update).map_err(Into::into)))
}

/// Makes a change as [`within`] does, and writes the slot that a refusal names to `slot`, which
/// stays as it is where none is named.
///
/// # Safety
///
/// The contract of [`within`].
pub(super) unsafe fn within_slots(
    update: *mut kvma_guest_update,
    guest: *mut kvma_guest,
    slot: Option<&mut MaybeUninit<u32>>,
    change: impl FnOnce(&mut GuestMemory, &mut GuestUpdate) -> Result<(), Refusal<Failure>>,
) -> kvma_status {
    let mut named = None;
    let status = ffi_call(|| {
        // SAFETY: this function's contract.
        unsafe {
            within(update, guest, |guest, update| {
                change(guest, update).inspect_err(|refusal| named = refusal.slot())
            })
        }
    });
    if let Some(named) = named {
        write_out(slot, named.get());
    }
    status
}

/// Begins an update of `guest` with `hooks` (NULL: none; the table is copied) and `nodes`
/// preallocated nodes, so that calls which need no more do not allocate: a new slot needs 3, a
/// change of a part of one at most 2. Writes the handle to `update`; NULL if the call fails. Call
/// it before taking the lock that guards the guest.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_update_new(
    update: Option<&mut MaybeUninit<*mut kvma_guest_update>>,
    guest: Option<&kvma_guest>,
    hooks: *const kvma_hooks,
    nodes: usize,
) -> kvma_status {
    ffi_call(|| {
        let out = out_handle(update)?;
        let &kvma_guest { memory, source, page, .. } = required(guest)?;
        // SAFETY: `hooks` is NULL or a table, as the caller promises.
        let hooks = unsafe { HookTable::new(hooks) }?;
        let update = StoredUpdate::new(source, page, hooks, nodes)?;
        *out = HandleSlot::new(memory)?.fill(kvma_guest_update { update, memory });
        Ok(())
    })
}

/// Does the work that is owed and frees the update: waits for the flush, gives memory back. Call it
/// after releasing the lock: pages that were taken from the guest may be used otherwise from then
/// on. NULL is fine. `KVMA_BUSY` if the update is in use or is being finished already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_guest_update_finish(update: *mut kvma_guest_update) -> kvma_status {
    // SAFETY: `update` is NULL or a live update, as the caller promises; it came from a
    // `HandleSlot` of its memory, and `StoredUpdate::finish` succeeds once.
    ffi_call(|| unsafe {
        free_handle(update, |update| update.memory, |update| update.update.finish())
    })
}
