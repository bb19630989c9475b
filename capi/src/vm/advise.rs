//! Advice about what is mapped.

use super::handle::kvma_vm;
use super::update::{alone, kvma_update, within};
use crate::boundary::ffi_call;
use crate::hooks::{kvma_hooks, to_advice};
use crate::status::{Failure, kvma_status};

/// Tells the hooks' `on_advise` about each piece in `len` bytes from `start`, ascending; nothing
/// changes in the map. All must be mapped: else `KVMA_NOT_MAPPED`. `advice` is
/// `KVMA_ADVISE_WILL_NEED` or the like; advice that takes pages away is followed by a flush. O(log
/// n + VMAs).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_advise(
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    advice: u32,
    hooks: *const kvma_hooks,
) -> kvma_status {
    ffi_call(|| {
        let advice = to_advice(advice).ok_or(Failure::Argument)?;
        // SAFETY: `vm` is NULL or a live map, as the caller promises.
        unsafe { alone(vm, hooks, |_, map, update| map.advise(start, len, advice, update)) }
    })
}

/// Does what `kvma_vm_advise` does, within an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_advise(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    start: u64,
    len: u64,
    advice: u32,
) -> kvma_status {
    ffi_call(|| {
        let advice = to_advice(advice).ok_or(Failure::Argument)?;
        // SAFETY: both are NULL or live handles, as the caller promises.
        unsafe { within(update, vm, |_, map, update| map.advise(start, len, advice, update)) }
    })
}
