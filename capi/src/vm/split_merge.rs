//! Splitting and merging VMAs by hand.

use core::ptr;

use super::handle::{kvma_vm, read};
use super::update::{alone, kvma_update, within};
use crate::boundary::ffi_call;
use crate::status::kvma_status;

/// Splits the VMA that holds `addr` in two there. Nothing happens where a VMA begins, or in a gap.
/// Calls no hook. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_split_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    ffi_call(|| unsafe { alone(vm, ptr::null(), |_, map, update| map.split_at(addr, update)) })
}

/// Does what `kvma_vm_split_at` does, with a node of an update.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_split_at(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    addr: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    ffi_call(|| unsafe { within(update, vm, |_, map, update| map.split_at(addr, update)) })
}

/// Merges the two VMAs that meet at `addr`, or answers why that is impossible: `KVMA_NOT_ADJACENT`,
/// `KVMA_ATTRIBUTES_DIFFER`, `KVMA_BACKING_DIFFERS`. Calls no hook and needs no memory. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_merge_at(vm: *mut kvma_vm, addr: u64) -> kvma_status {
    // SAFETY: `vm` is NULL or a live map, as the caller promises.
    ffi_call(|| unsafe { alone(vm, ptr::null(), |_, map, update| map.merge_at(addr, update)) })
}

/// Does what `kvma_vm_merge_at` does, within an update, which keeps the node and the user data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_update_merge_at(
    update: *mut kvma_update,
    vm: *mut kvma_vm,
    addr: u64,
) -> kvma_status {
    // SAFETY: both are NULL or live handles, as the caller promises.
    ffi_call(|| unsafe { within(update, vm, |_, map, update| map.merge_at(addr, update)) })
}

/// Answers what `kvma_vm_merge_at` would, and changes nothing. O(log n).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvma_vm_can_merge_at(vm: Option<&kvma_vm>, addr: u64) -> kvma_status {
    ffi_call(|| read(vm, |map| Ok(map.can_merge_at(addr)?)))
}
